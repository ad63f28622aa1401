import { expect } from "bun:test";
import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { calls } from "../../../ffi/calls.ts";
import { backend } from "../../../ffi/load.ts";
import { bind, constants, getIntOption, OwnedFd, socket, unixAddress } from "../../../ffi/mod.ts";
import { TrapMaker } from "../../../ffi/trap/maker.ts";
import { expectNoFdLeaks } from "../../helpers/fd-leak.ts";
import { newThread, ownThreads } from "../../helpers/own-threads.ts";
import { requires } from "../../helpers/requires.ts";
import { until } from "../../helpers/wrapped.ts";

expectNoFdLeaks();

const hasMaker = requires.feature(
  process.arch === "x64" && availableParallelism() > 1,
  "only on x86-64, two processors",
);
// struct maker
const [STATE, AT_REST, WORKING] = [0, 0, 1];
const [BUFFER_NAME, PORTS, HEAD_LENGTH, TAIL_LENGTH, HEAD, TAIL] = [4, 12, 76, 80, 84, 148];
const [MADE_COUNT, MADE, EACH_TIME, PROCESSOR, BYTES] = [212, 216, 16, 360, 364];
const FUTEX_WAKE_PRIVATE = 129;

/** Asks for sockets with room for 100,000 bytes and the names `@<head><port><tail>`. @returns their numbers */
async function order(maker: TrapMaker, head: string, firstPort: number, tail: string): Promise<number[]> {
  const memory = backend.view(maker.address, BYTES);
  const [data, bytes, words] = [new DataView(memory), new Uint8Array(memory), new Int32Array(memory, 0, 4)];
  data.setInt32(BUFFER_NAME, constants.SO_SNDBUF, true);
  data.setInt32(BUFFER_NAME + 4, 50_000, true);
  for (let index = 0; index < EACH_TIME; index++) data.setUint32(PORTS + 4 * index, firstPort + index, true);
  bytes.set(new TextEncoder().encode(`\0${head}`), HEAD);
  bytes.set(new TextEncoder().encode(tail), TAIL);
  data.setUint32(HEAD_LENGTH, head.length + 1, true);
  data.setUint32(TAIL_LENGTH, tail.length, true);
  Atomics.store(words, STATE, WORKING);
  calls.futex(maker.address, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
  await until("the sockets", () => Atomics.load(words, STATE) === AT_REST);
  expect(data.getInt32(MADE_COUNT, true)).toBe(EACH_TIME);
  return Array.from({ length: EACH_TIME }, (_, index) => data.getInt32(MADE + 4 * index, true));
}

function boundNames(prefix: string): string[] {
  const lines = readFileSync("/proc/net/unix", "latin1").split("\n");
  return lines.flatMap((line) => / (@.*)$/.exec(line)?.[1] ?? []).filter((name) => name.startsWith(prefix));
}

requires.test([hasMaker], "TrapMaker makes sockets with room and a name, but for a name that is taken", async () => {
  const head = `maker-test-${process.pid}-`;
  using taken = socket(constants.AF_UNIX, constants.SOCK_STREAM);
  bind(taken, unixAddress(`@${head}9998/x`));
  using maker = TrapMaker.start();
  if (maker === undefined) throw new Error("There is no maker");
  const numbers = await order(maker, head, 9990, "/x");
  expect(numbers.findIndex((number) => number < 0)).toBe(8);
  expect(numbers.filter((number) => number >= 0).length).toBe(EACH_TIME - 1);
  const ports = Array.from({ length: EACH_TIME }, (_, index) => `@${head}${9990 + index}/x`);
  expect(boundNames(`@${head}`).sort()).toEqual(ports.sort());
  const first = new OwnedFd(numbers[0] ?? -1);
  expect(getIntOption(first, constants.SOL_SOCKET, constants.SO_SNDBUF)).toBe(100_000);
  expect(readFileSync(`/proc/self/fdinfo/${first.number}`, "latin1")).toMatch(/^flags:\t02004002$/m);
  first.take(); // it is the maker's still
  maker.clear();
  expect(boundNames(`@${head}`)).toEqual([`@${head}9998/x`]);
});

/** Where a thread may run, a bit each. */
function processorsOf(thread: string): bigint {
  const mask = /^Cpus_allowed:\s*([\w,]+)/m.exec(readFileSync(`/proc/self/task/${thread}/status`, "latin1"))?.[1];
  return BigInt(`0x${mask?.replaceAll(",", "") ?? "0"}`);
}

requires.test([hasMaker], "TrapMaker leaves its processor to who connects, whichever that is", async () => {
  const before = ownThreads();
  using maker = TrapMaker.start();
  if (maker === undefined) throw new Error("There is no maker");
  const own = await newThread(before);
  const all = processorsOf(String(process.pid));
  const allowed = [...all.toString(2)].reverse().flatMap((bit, index) => (bit === "1" ? index : []));
  for (const processor of [...allowed.slice(0, 2), 5000]) {
    new DataView(backend.view(maker.address, BYTES)).setUint32(PROCESSOR, processor, true);
    await order(maker, `maker-test-${process.pid}-`, 1, "/z");
    maker.clear();
    expect(processorsOf(own)).toBe(processor === 5000 ? all : all & ~(1n << BigInt(processor)));
  }
});

requires.test([hasMaker], "TrapMaker closes what it has made and ends its thread at its end", async () => {
  const head = `maker-test-${process.pid}-`;
  const before = ownThreads();
  const maker = TrapMaker.start();
  if (maker === undefined) throw new Error("There is no maker");
  const own = await newThread(before);
  await order(maker, head, 1, "/y");
  maker[Symbol.dispose]();
  maker[Symbol.dispose]();
  expect(boundNames(`@${head}`)).toEqual([]);
  await until("its thread to be gone", () => !ownThreads().has(own));
});

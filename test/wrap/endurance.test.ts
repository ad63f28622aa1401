/**
 * Many short connections leave a supervisor as it was: its descriptors, its threads and its memory. Both ends are under
 * wrap, and both set an option of TCP, which a supervisor has to remember for as long as the connection lives.
 *   SHMLINK_TEST_CONNECTIONS=100000   so many instead of 3,000, after as many as bring memory to its level
 */
import { expect } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { unusedNames } from "../helpers/made-ahead.ts";
import { requires } from "../helpers/requires.ts";
import { compileFixture, type Running, Stage, until } from "../helpers/wrapped.ts";

expectNoFdLeaks();
const cc = requires.program("cc", "gcc");
const COUNT = Number(process.env["SHMLINK_TEST_CONNECTIONS"] ?? 3000);
/** Until memory is at its level: a supervisor remembers the options of the last 65,536 sockets. A few thousand are judged
 *  below it, after the code that they run has been compiled for the first time. */
const LEVEL = 70_000;
const WARM_UP = COUNT > 3000 ? LEVEL : 2000;
/** What is in use may grow so much, by code that is compiled anew (3 MiB), and below the level by what is remembered (100
 *  bytes each): more than 42 bytes kept for each of 100,000 connections are found, or 1,400 for each of 3,000. */
const SLACK_BYTES = 4 << 20;
/** The runtime's own, which collect and compile, come and go. The first thread and machine code's have the program's name. */
const OF_RUNTIME = /^(Bun Pool \d+|HeapHelper|JITWorker|JSCWarmUp|mi-scavenger|ollector Thread)$/;
/** What no collector sees is in the size of the process, with what it has not given back yet. */
const SLACK_KIB = 128 * 1024;
const PATIENCE_MS = 240_000;

type Footprint = {
  readonly fds: number;
  /** Their names, but for the runtime's own. */
  readonly threads: readonly string[];
  readonly memoryKiB: number;
  readonly usedBytes: number;
};

/** @param port  where connections go: when they have ended, those that were made ahead do */
async function footprint(running: Running, port: string): Promise<Footprint> {
  const usedBytes = await weigh(running);
  await until("what was made ahead to be gone", () => unusedNames(port).length === 0);
  const status = readFileSync(`/proc/${running.pid}/status`, "latin1");
  const number = (name: string): number => Number(new RegExp(`^${name}:\\s*(\\d+)`, "m").exec(status)?.[1]);
  const fds = readdirSync(`/proc/${running.pid}/fd`).length;
  return { fds, threads: threadsOf(running.pid), memoryKiB: number("VmRSS"), usedBytes };
}

function threadsOf(pid: number): string[] {
  const names = readdirSync(`/proc/${pid}/task`).map((thread) => nameOf(`/proc/${pid}/task/${thread}`));
  return names.filter((name) => name !== "" && !OF_RUNTIME.test(name)).sort();
}

function nameOf(folder: string): string {
  try {
    return readFileSync(`${folder}/comm`, "latin1").trimEnd();
  } catch {
    return ""; // it has ended
  }
}

/** The bytes that the supervisor has in use, garbage not counted. */
async function weigh(running: Running): Promise<number> {
  const answers = (): string[] => [...running.output.matchAll(/weighs (\d+)\n/g)].map(([, bytes = ""]) => bytes);
  const before = answers().length;
  running.child.stdin?.write("?");
  return Number(await until("the weight of a supervisor", () => answers()[before]));
}

requires.test(
  [cc],
  `${COUNT} short connections leave the supervisors of both ends as they were`,
  async () => {
    await using stage = new Stage();
    const program = compileFixture("many-connections");
    const options = { flags: ["--weigh"], input: true };
    const server = stage.wrap([program, "serve"], options);
    const port = await server.match(/port (\d+)/);
    await stage.listener(Number(port));
    const client = stage.wrap([program, "dial", port, String(WARM_UP), String(COUNT)], options);
    const warm = await until("the warm-up", () => /warm (\d+)\n/.exec(client.output)?.[1], PATIENCE_MS);
    const before = [await footprint(server, port), await footprint(client, port)];
    process.kill(Number(warm), "SIGUSR1");
    await until("the last connection", () => client.output.includes("done"), PATIENCE_MS);
    const after = [await footprint(server, port), await footprint(client, port)];
    expect(after.map(({ fds }) => fds)).toEqual(before.map(({ fds }) => fds));
    expect(after.map(({ threads }) => threads)).toEqual(before.map(({ threads }) => threads));
    for (const [index, { memoryKiB, usedBytes }] of after.entries()) {
      expect(memoryKiB).toBeLessThan((before[index]?.memoryKiB ?? 0) + SLACK_KIB);
      expect(usedBytes).toBeLessThan((before[index]?.usedBytes ?? 0) + SLACK_BYTES);
    }
  },
  2 * PATIENCE_MS + 60_000,
);

import { expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { addSeals, constants, ftruncate, memfdCreate, type OwnedFd, open, pipe } from "../../../ffi/mod.ts";
import { Quota } from "../../../lib/broker/quota.ts";
import { Spares } from "../../../lib/broker/spares.ts";
import { RING_SEALS } from "../../../lib/channel/seals.ts";
import { builtInConfig } from "../../../lib/config/schema.ts";
import { DATA_OFFSET } from "../../../lib/ring/layout.ts";
import type { ObjectId } from "../../../lib/util/brand.ts";
import { expectNoFdLeaks } from "../../helpers/fd-leak.ts";

execFileSync("true"); // what the runtime opens for its first child stays open
expectNoFdLeaks();

const MANAGER = 3 as ObjectId;
const OWNER = { pid: 1, uid: 1000, gid: 1000, groups: [], exe: "", cgroup: "", context: undefined };

/** A file as its maker left it, sealed afterwards. */
function file(size: number, seals: number = RING_SEALS, prepare: (fd: OwnedFd) => void = () => undefined): OwnedFd {
  const fd = memfdCreate("spare");
  ftruncate(fd, size);
  prepare(fd);
  addSeals(fd, seals);
  return fd;
}

/** Four mebibytes that no size shows. */
function reserveBeyondEnd(fd: OwnedFd): void {
  const path = `/proc/${process.pid}/fd/${fd.number}`;
  execFileSync("fallocate", ["--keep-size", "--offset", "1MiB", "--length", "4MiB", path]);
}

/** Spares with a clock of their own, and what the client was told. */
class Bench implements Disposable {
  nowMs = 0;
  readonly dropped: number[] = [];
  readonly timers: { readonly dueMs: number; readonly callback: () => void }[] = [];
  readonly quota: Quota = new Quota(builtInConfig.limits);
  readonly spares: Spares = new Spares({
    core: { config: builtInConfig, quota: this.quota },
    owner: OWNER,
    now: () => this.nowMs,
    setTimer: (delayMs, callback) => {
      const timer = { dueMs: this.nowMs + delayMs, callback };
      this.timers.push(timer);
      return { cancel: () => void this.timers.splice(this.timers.indexOf(timer), 1) };
    },
    tellDropped: (_manager, serial) => void this.dropped.push(serial),
  });

  pass(ms: number): void {
    this.nowMs += ms;
    for (const timer of this.timers.splice(0)) {
      if (timer.dueMs <= this.nowMs) timer.callback();
      else this.timers.push(timer);
    }
  }

  [Symbol.dispose](): void {
    this.spares.close();
    expect(this.quota.isEmpty).toBe(true);
    expect(this.timers).toEqual([]); // one of them would keep the session
  }
}

test("a spare ring goes to the first who needs its size, oldest first, and is charged until then", () => {
  using bench = new Bench();
  for (const [serial, capacity] of [
    [1, 4096],
    [2, 8192],
    [3, 4096],
    [4, 0],
  ] as const)
    bench.spares.add(MANAGER, serial, file(DATA_OFFSET + capacity));
  expect(bench.spares.take(65536)).toBeUndefined();
  for (const [capacity, serial] of [
    [4096, 1],
    [0, 4],
    [4096, 3],
  ] as const) {
    const spare = bench.spares.take(capacity);
    expect(spare?.serial).toBe(serial);
    if (spare === undefined) continue;
    spare.fd.close(); // what becomes of it is the channel's
    bench.quota.release(OWNER, { sharedBytes: DATA_OFFSET + capacity });
  }
  expect(bench.spares.take(4096)).toBeUndefined();
  expect(bench.dropped).toEqual([]);
});

const USELESS: Readonly<Record<string, () => OwnedFd>> = {
  "a pipe": () => {
    const { reader, writer } = pipe();
    writer.close();
    return reader;
  },
  "a device": () => open("/dev/null", constants.O_RDWR),
  "a memfd that is not sealed": () => file(DATA_OFFSET + 4096, 0),
  "a memfd that its maker cannot write to": () => file(DATA_OFFSET + 4096, RING_SEALS | constants.F_SEAL_WRITE),
  ...Object.fromEntries(
    (["F_SEAL_SHRINK", "F_SEAL_GROW", "F_SEAL_FUTURE_WRITE", "F_SEAL_SEAL"] as const).map((name) => [
      `a memfd without ${name}`,
      () => file(DATA_OFFSET + 4096, RING_SEALS & ~constants[name]),
    ]),
  ),
  "a ring in whose file memory lies beyond its end": () =>
    file(DATA_OFFSET + 4096, RING_SEALS, (fd) => reserveBeyondEnd(fd)),
  "a file of an odd size": () => file(DATA_OFFSET + 5000),
  "an empty file": () => file(0),
  "a ring above the limit": () => file(DATA_OFFSET + builtInConfig.limits.maxCapacityBytes * 2),
};

for (const [name, make] of Object.entries(USELESS)) {
  test(`${name} is no spare ring: it is dropped, and nothing is charged`, () => {
    using bench = new Bench();
    bench.spares.add(MANAGER, 9, make());
    expect(bench.dropped).toEqual([9]);
    expect(bench.quota.isEmpty).toBe(true);
  });
}

test("eight are kept, and what the quota does not allow is not", () => {
  using bench = new Bench();
  for (let serial = 1; serial <= 9; serial++) bench.spares.add(MANAGER, serial, file(DATA_OFFSET + 4096));
  expect(bench.dropped).toEqual([9]);
  const { maxCapacityBytes, ...limits } = builtInConfig.limits;
  using poor = new Bench();
  poor.quota.limits = { ...limits, maxSharedBytesPerUser: 20_000 };
  poor.spares.add(MANAGER, 1, file(DATA_OFFSET + 4096));
  poor.spares.add(MANAGER, 2, file(DATA_OFFSET + 4096));
  expect(poor.dropped).toEqual([2]);
});

test("what nobody needs is let go of after a while, and one timer sees to it", () => {
  using bench = new Bench();
  bench.spares.add(MANAGER, 1, file(DATA_OFFSET + 4096));
  bench.pass(6_000);
  bench.spares.add(MANAGER, 2, file(DATA_OFFSET + 4096));
  expect(bench.timers.length).toBe(1);
  bench.pass(4_000);
  expect(bench.dropped).toEqual([1]);
  expect(bench.timers.length).toBe(1);
  bench.pass(6_000);
  expect(bench.dropped).toEqual([1, 2]);
  expect(bench.timers.length).toBe(0);
  expect(bench.quota.isEmpty).toBe(true);
});

test("a spare ring that is put back is charged again, keeps its time, and is the next one", () => {
  using bench = new Bench();
  for (const serial of [1, 2]) bench.spares.add(MANAGER, serial, file(DATA_OFFSET + 4096));
  bench.pass(6_000);
  bench.spares.add(MANAGER, 3, file(DATA_OFFSET + 4096));
  const spare = bench.spares.take(4096);
  expect(spare?.serial).toBe(1);
  if (spare === undefined) throw new Error("There was none");
  bench.spares.putBack(spare);
  bench.pass(4_000);
  expect(bench.dropped.toSorted()).toEqual([1, 2]);
  expect(bench.spares.take(8192)).toBeUndefined();
  bench.spares.giveWay();
  expect(bench.dropped).toContain(3);
  expect(bench.quota.isEmpty).toBe(true);
  bench.spares.close();
});

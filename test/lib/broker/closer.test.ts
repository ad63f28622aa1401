/** Lanes: what one user's descriptors take to close is his own business, and counts among those he may have. */
import { expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import {
  borrowFd,
  closeNow,
  constants,
  fstat,
  memfdCreate,
  type OwnedFd,
  open,
  pipe,
  SyscallError,
  send,
  sendmsg,
  socketpair,
  writeAt,
} from "../../../ffi/mod.ts";
import { Closer } from "../../../lib/broker/closer.ts";
import type { ClosingThread } from "../../../lib/broker/closing-threads.ts";
import { isDrained, isHarmless, knownDevices } from "../../../lib/broker/harmless.ts";
import { type Account, Quota } from "../../../lib/broker/quota.ts";
import { builtInConfig } from "../../../lib/config/schema.ts";
import { FailureError } from "../../../lib/errors.ts";
import { expectNoFdLeaks } from "../../helpers/fd-leak.ts";
import { Lingering } from "../../helpers/lingering.ts";
import { makeRuntimeDir } from "../../helpers/runtime-dir.ts";

execFileSync("true"); // what the runtime opens for its first child stays open
expectNoFdLeaks();

const ALICE: Account = { uid: 1000, context: undefined };
const BOB: Account = { uid: 1001, context: undefined };

function sandbox(app: string): Account {
  return { uid: ALICE.uid, context: { engine: "test", app, instance: "" } };
}

/** Holds what it is given until finish(). */
class SlowThread implements ClosingThread {
  numbers: readonly number[] = [];

  get isBusy(): boolean {
    return this.numbers.length > 0;
  }

  close(numbers: readonly number[]): void {
    this.numbers = numbers;
  }

  finish(): void {
    this.numbers = [];
  }

  wait(): void {}
  giveBack(): void {}
}

/** A closer with time and threads of its own. The descriptors are numbers that only its threads see. */
class Bench {
  nowMs = 0;
  readonly timers: (() => void)[] = [];
  readonly threads: SlowThread[] = [];
  readonly quota: Quota;
  readonly closer: Closer;
  #next = 1_000_000; // not open: nothing is known of it

  send(who: Account, count = 1): void {
    const close = this.closer.closingFor(who);
    for (let index = 0; index < count; index++) close(this.#next++);
  }

  constructor(maxFdsPerUser = 10) {
    this.quota = new Quota({ ...builtInConfig.limits, maxFdsPerUser });
    this.closer = new Closer({
      quota: this.quota,
      setTimer: (_delayMs, callback) => void this.timers.push(callback),
      now: () => this.nowMs,
      startThread: () => {
        const thread = new SlowThread();
        this.threads.push(thread);
        return thread;
      },
    });
  }

  sendUnhurried(who: Account, count = 1): void {
    const close = this.closer.closingLaterFor(who);
    for (let index = 0; index < count; index++) close(this.#next++);
  }

  get given(): number[] {
    return this.threads.map(({ numbers }) => numbers.length);
  }
}

test("what comes in a turn goes to one thread together, and what comes later waits for it", () => {
  const bench = new Bench();
  bench.send(ALICE, 3);
  expect(bench.given).toEqual([]);
  bench.closer.settle();
  bench.send(ALICE, 2);
  bench.closer.settle();
  expect(bench.given).toEqual([3]);
  expect(bench.closer.backlogOf(ALICE)).toBe(5);
  bench.threads[0]?.finish();
  bench.closer.settle();
  expect(bench.given).toEqual([2]);
  expect(bench.closer.backlogOf(ALICE)).toBe(2);
});

test("what is in no hurry waits for others, a while, or for something that is in a hurry", () => {
  const late = new Bench(1000);
  late.sendUnhurried(ALICE, 3);
  late.closer.settle();
  expect(late.given).toEqual([]);
  expect(late.closer.backlogOf(ALICE)).toBe(3);
  late.nowMs = 10;
  late.closer.settle();
  expect(late.given).toEqual([3]);

  const many = new Bench(1000);
  many.sendUnhurried(ALICE, 15);
  many.closer.settle();
  many.sendUnhurried(ALICE, 1);
  many.closer.settle();
  expect(many.given).toEqual([16]);

  const mixed = new Bench(1000);
  mixed.sendUnhurried(ALICE);
  mixed.closer.settle();
  mixed.send(ALICE);
  mixed.closer.settle();
  expect(mixed.given).toEqual([2]);

  const few = new Bench(7);
  few.sendUnhurried(ALICE);
  few.closer.settle();
  expect(few.given).toEqual([1]); // no part of what he may have is taken up by our waiting
});

test("a user whose descriptors do not close holds up no other user, and none of his own contexts", () => {
  const bench = new Bench();
  for (const who of [ALICE, BOB, sandbox("one")]) {
    bench.send(who);
    bench.closer.settle();
  }
  expect(bench.given).toEqual([1, 1, 1]);
});

test("the contexts of a user take up no more than eight threads, and others find one", () => {
  const bench = new Bench();
  for (let index = 0; index < 40; index++) bench.send(sandbox(`app-${index}`));
  bench.closer.settle();
  expect(bench.given.length).toBe(8);
  bench.send(BOB);
  bench.closer.settle();
  expect(bench.given.length).toBe(9);
  bench.threads[0]?.finish();
  bench.closer.settle();
  expect(bench.given).toEqual(Array(9).fill(1)); // the next one has it
});

test("users who take up all of the threads hold up nobody who has none", () => {
  const bench = new Bench();
  for (let index = 0; index < 40; index++)
    bench.send({ uid: 2000 + (index % 4), context: { engine: "test", app: `app-${index}`, instance: "" } });
  bench.closer.settle();
  expect(bench.given.length).toBe(32);
  bench.send(ALICE);
  bench.send(BOB);
  bench.closer.settle();
  expect(bench.given.length).toBe(34);
});

test("a thread takes as many as it has room for, and the rest afterwards", () => {
  const bench = new Bench();
  bench.send(ALICE, 100);
  bench.closer.settle();
  expect(bench.given).toEqual([64]);
  bench.threads[0]?.finish();
  bench.closer.settle();
  expect(bench.given).toEqual([36]);
});

test("what is late counts among its user's descriptors until it is closed, and what is not does not", () => {
  const bench = new Bench();
  bench.send(ALICE, 6);
  bench.closer.settle();
  expect(bench.quota.isEmpty).toBe(true);
  bench.nowMs = 200;
  bench.closer.settle();
  expect(bench.quota.charge(ALICE, { fds: 5 })).toMatch(/would have 11 descriptors, limits\.maxFdsPerUser is 10/);
  bench.send(ALICE, 3);
  bench.closer.settle();
  bench.nowMs = 400;
  bench.closer.settle();
  expect(bench.quota.charge(ALICE, { fds: 2 })).toMatch(/would have 11 descriptors/);
  bench.threads[0]?.finish();
  bench.closer.settle(); // the last three are on their way
  expect(bench.quota.charge(ALICE, { fds: 8 })).toMatch(/would have 11 descriptors/);
  bench.threads[0]?.finish();
  bench.closer.settle();
  expect(bench.quota.isEmpty).toBe(true);
});

test("what comes while something is late is late a tenth of a second after it came, and not before", () => {
  const bench = new Bench();
  const charged = (): number => {
    let left = 0;
    while (bench.quota.charge(ALICE, { fds: 1 }) === undefined) left += 1;
    bench.quota.release(ALICE, { fds: left });
    return 10 - left;
  };
  bench.send(ALICE);
  bench.closer.settle();
  const seen: number[] = [];
  for (const nowMs of [40, 80, 120, 160, 200, 240]) {
    bench.nowMs = nowMs;
    bench.send(ALICE); // without a pause: the lane is never empty
    bench.closer.settle();
    seen.push(charged());
  }
  expect(seen).toEqual([0, 0, 1, 2, 3, 4]);
  bench.threads[0]?.finish();
  bench.closer.settle(); // what came first is closed, and the rest is on its way
  expect(charged()).toBe(3);
  bench.threads[0]?.finish();
  bench.send(ALICE);
  bench.closer.settle();
  expect(charged()).toBe(0);
});

test("who has more of them than he may have descriptors is told so, and others are not", () => {
  const bench = new Bench();
  bench.send(ALICE, 10);
  bench.closer.settle();
  bench.closer.checkBacklog(ALICE);
  bench.send(ALICE);
  expect(() => bench.closer.checkBacklog(ALICE)).toThrow(FailureError);
  bench.closer.checkBacklog(BOB);
  bench.threads[0]?.finish();
  bench.closer.settle();
  bench.closer.checkBacklog(ALICE);
});

test("threads are looked at again without anything happening, and not when there is nothing to see", () => {
  const bench = new Bench();
  bench.send(ALICE);
  bench.closer.settle();
  expect(bench.timers.length).toBe(1);
  bench.threads[0]?.finish();
  bench.timers.pop()?.();
  expect([bench.timers.length, bench.closer.backlogOf(ALICE)]).toEqual([0, 0]);
});

test("a pipe that was looked at is closed without another look, and what only calls itself one is not", () => {
  const bench = new Bench();
  for (const fd of Object.values(pipe())) {
    const { number } = fd;
    const guarded = bench.closer.guard(fd, ALICE);
    bench.closer.settleHow(guarded, fstat(guarded), "pipe");
    guarded.close();
    expect(() => fstat(borrowFd(number))).toThrow(SyscallError);
  }
  const fd = bench.closer.guard(open("/dev/null", constants.O_RDONLY), ALICE);
  const { number } = fd;
  bench.closer.settleHow(fd, fstat(fd), "pipe");
  fd.close();
  expect(bench.closer.backlogOf(ALICE)).toBe(1);
  closeNow(number);
});

test("where no thread can be made it closes in place", () => {
  const quota = new Quota(builtInConfig.limits);
  using closer = new Closer({ quota, setTimer: () => undefined, startThread: () => undefined });
  const [near, far] = socketpair(constants.SOCK_STREAM);
  using _far = far;
  const { number } = near;
  closer.guard(near, ALICE).close();
  closer.settle();
  expect(() => fstat(borrowFd(number))).toThrow(SyscallError);
});

test("the end of a closer waits for what is to be closed", () => {
  const closer = new Closer({ quota: new Quota(builtInConfig.limits), setTimer: () => undefined });
  const [near, far] = socketpair(constants.SOCK_STREAM);
  using _far = far;
  const { number } = near;
  closer.guard(near, ALICE).close();
  expect(fstat(borrowFd(number)).ino).toBeGreaterThan(0n); // not in place
  closer[Symbol.dispose]();
  expect(() => fstat(borrowFd(number))).toThrow(SyscallError);
});

function harmless(fd: OwnedFd): boolean {
  using _fd = fd;
  return isHarmless(fd.number, knownDevices());
}

test("only pipes and small memory files are closed in place, and nothing that looks like them", () => {
  using directory = makeRuntimeDir();
  const { reader, writer } = pipe();
  expect([harmless(reader), harmless(writer), harmless(memfdCreate("small"))]).toEqual([true, true, true]);
  const large = memfdCreate("large");
  writeAt(large, new Uint8Array(4 << 20), 0);
  expect(harmless(large)).toBe(false);
  const fifo = join(directory.path, "fifo");
  execFileSync("mkfifo", [fifo]); // its file system may be anybody's
  expect(harmless(open(fifo, constants.O_RDWR))).toBe(false);
  expect(harmless(open("/dev/null", constants.O_RDONLY))).toBe(false);
  for (const end of socketpair(constants.SOCK_STREAM)) expect(harmless(end)).toBe(false);
  using lingering = new Lingering();
  expect(isHarmless(lingering.fd.number, knownDevices())).toBe(false);
});

test("a connection in which nothing waits is closed in place, and nothing can come meanwhile", () => {
  const [near, far] = socketpair(constants.SOCK_STREAM);
  expect(isDrained(near.number)).toBe(true);
  expect(() => send(far, new Uint8Array(1), constants.MSG_NOSIGNAL)).toThrow(SyscallError);
  const [ours, theirs] = socketpair(constants.SOCK_STREAM);
  sendmsg(theirs, new Uint8Array(1), [near]);
  expect(isDrained(ours.number)).toBe(false);
  for (const fd of [near, far, ours, theirs]) fd.close();
});

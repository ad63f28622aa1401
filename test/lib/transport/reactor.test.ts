import { expect, test } from "bun:test";
import { readFileSync, unlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { constants, getFileLimit, type OwnedFd, open, pipe, read, setFileLimit, write } from "../../../ffi/mod.ts";
import { Reactor, type Registration } from "../../../lib/transport/reactor.ts";
import { openFds } from "../../helpers/fd-leak.ts";
import { Random } from "../../helpers/fuzz/random.ts";

const { EPOLLHUP, EPOLLIN, EPOLLOUT } = constants;
const ONE = new Uint8Array([1]);

/** Pipes whose readers are all ready, closed with the scope. */
class Pipes implements Disposable {
  readonly readers: OwnedFd[] = [];
  readonly writers: OwnedFd[] = [];

  constructor(count: number) {
    for (let index = 0; index < count; index += 1) {
      const { reader, writer } = pipe(constants.O_NONBLOCK);
      write(writer, ONE);
      this.readers.push(reader);
      this.writers.push(writer);
    }
  }

  [Symbol.dispose](): void {
    for (const fd of [...this.readers, ...this.writers]) fd.close();
  }
}

test("run() calls for a ready descriptor with its events until stop()", () => {
  using reactor = new Reactor();
  using pipes = new Pipes(1);
  const [reader] = pipes.readers as [OwnedFd];
  let calls = 0;
  reactor.add(reader, EPOLLIN, (events) => {
    expect(events).toBe(EPOLLIN);
    calls += 1;
    if (calls === 3) reactor.stop(); // level-triggered: it is told again while nobody reads
  });
  reactor.run();
  expect(calls).toBe(3);
});

test("stop() before run() lets it return at once, and the next run() runs", () => {
  using reactor = new Reactor();
  reactor.stop();
  reactor.run();
  let fired = false;
  reactor.setTimer(0, () => {
    fired = true;
    reactor.stop();
  });
  reactor.run();
  expect(fired).toBe(true);
});

test("a direct descriptor, the others and the timers all have their turn, also while each is ready always", () => {
  using reactor = new Reactor();
  using pipes = new Pipes(2);
  const [direct, other] = pipes.readers as [OwnedFd, OwnedFd];
  const calls = { direct: 0, other: 0, timer: 0 };
  reactor.addDirect(direct, (events) => {
    expect(events).toBe(EPOLLIN);
    calls.direct += 1;
  });
  reactor.add(other, EPOLLIN, () => {
    calls.other += 1;
  });
  reactor.setTimer(0, () => {
    calls.timer += 1;
  });
  for (let turn = 0; turn < 3; turn++) reactor.runOnce(-1);
  expect(calls).toEqual({ direct: 3, other: 3, timer: 1 });
});

test("who sleeps on a direct descriptor is woken by another, by a timer, and by its hang-up", () => {
  using reactor = new Reactor();
  using pipes = new Pipes(2);
  const [direct, other] = pipes.readers as [OwnedFd, OwnedFd];
  const [writer, otherWriter] = pipes.writers as [OwnedFd, OwnedFd];
  for (const each of [direct, other]) read(each, new Uint8Array(1));
  const seen: unknown[] = [];
  const watching = reactor.addDirect(direct, (events) => {
    seen.push(events);
    watching.remove();
  });
  reactor.add(other, EPOLLIN, () => {
    seen.push("other");
    read(other, new Uint8Array(1));
  });
  reactor.setTimer(0.2, () => write(otherWriter, ONE));
  reactor.setTimer(3, () => writer.close());
  while (seen.length < 2) reactor.runOnce(-1);
  reactor.runOnce(0);
  expect(seen).toEqual(["other", EPOLLHUP]);
  reactor.addDirect(other, () => undefined); // there is room for it again
});

test("a direct descriptor that another's callback has removed in the same turn is not called", () => {
  using reactor = new Reactor();
  using pipes = new Pipes(2);
  const [direct, other] = pipes.readers as [OwnedFd, OwnedFd];
  let calls = 0;
  const watching = reactor.addDirect(direct, () => {
    calls += 1;
  });
  expect(() => reactor.addDirect(direct, () => undefined)).toThrow("has a direct descriptor already");
  reactor.add(other, EPOLLIN, () => watching.remove());
  reactor.runOnce(-1);
  expect(calls).toBe(0);
});

test("modify() changes what is waited for, and a hang-up comes even with 0", () => {
  using reactor = new Reactor();
  using pipes = new Pipes(1);
  const seen: number[] = [];
  const registration = reactor.add(pipes.readers[0] as OwnedFd, 0, (events) => seen.push(events));
  reactor.runOnce(0);
  expect(seen).toEqual([]);
  registration.modify(EPOLLIN);
  reactor.runOnce(0);
  registration.modify(0);
  pipes.writers[0]?.close();
  reactor.runOnce(0);
  expect(seen).toEqual([EPOLLIN, EPOLLHUP]);
  registration.remove();
  expect(() => registration.modify(EPOLLIN)).toThrow("removed");
});

test("a callback that removes and closes the others of its batch silences them", () => {
  const before = openFds();
  {
    using reactor = new Reactor();
    using pipes = new Pipes(10);
    const registrations: Registration[] = [];
    let calls = 0;
    for (const reader of pipes.readers) {
      const registration = reactor.add(reader, EPOLLIN, () => {
        calls += 1;
        for (const other of registrations) other.remove();
        for (const fd of pipes.readers) fd.close();
      });
      registrations.push(registration);
    }
    reactor.runOnce(-1);
    reactor.runOnce(0);
    expect(calls).toBe(1);
  }
  expect(openFds()).toEqual(before);
});

test("a stale event of a closed descriptor does not reach the one that got its number", () => {
  using reactor = new Reactor();
  using pipes = new Pipes(2);
  using other = new Pipes(0);
  const registrations: Registration[] = [];
  const reused: number[] = [];
  for (const [index, reader] of pipes.readers.entries()) {
    const registration = reactor.add(reader, EPOLLIN, () => {
      const victim = pipes.readers[1 - index] as OwnedFd;
      const { number } = victim;
      registrations[1 - index]?.remove();
      victim.close();
      const fresh = pipe(constants.O_NONBLOCK); // not ready: nobody wrote
      other.readers.push(fresh.reader);
      other.writers.push(fresh.writer);
      expect([fresh.reader.number, fresh.writer.number]).toContain(number);
      reactor.add(fresh.reader, EPOLLIN, () => reused.push(fresh.reader.number));
      registrations[index]?.remove();
    });
    registrations.push(registration);
  }
  reactor.runOnce(-1);
  reactor.runOnce(0);
  expect(reused).toEqual([]);
});

test("remove() after the descriptor was closed leaves the new owner of its number alone", () => {
  using reactor = new Reactor();
  using pipes = new Pipes(2);
  const [first, second] = pipes.readers as [OwnedFd, OwnedFd];
  const early = reactor.add(first, EPOLLIN, () => undefined);
  const { number } = first;
  first.close();
  using copy = second.dup();
  expect(copy.number).toBe(number);
  let calls = 0;
  reactor.add(copy, EPOLLIN, () => {
    calls += 1;
  });
  early.remove();
  early.remove();
  reactor.runOnce(0);
  expect(calls).toBe(1);
});

test("timers fire in order, not before their time, and never when cancelled", () => {
  using reactor = new Reactor();
  const fired: string[] = [];
  const startMs = performance.now();
  const cancelled = reactor.setTimer(5, () => fired.push("cancelled"));
  reactor.setTimer(20, () => {
    fired.push("late");
    expect(performance.now() - startMs).toBeGreaterThanOrEqual(20);
    reactor.stop();
  });
  reactor.setTimer(1, () => fired.push("early"));
  cancelled.cancel();
  reactor.run();
  cancelled.cancel();
  expect(fired).toEqual(["early", "late"]);
});

test("a timer comes in time whatever was set before it and cancelled, also in less than a millisecond", () => {
  using reactor = new Reactor();
  const fired: string[] = [];
  const after = (delayMs: number, name: string): { cancel(): void } => {
    const startMs = performance.now();
    return reactor.setTimer(delayMs, () => {
      expect(performance.now() - startMs).toBeGreaterThanOrEqual(delayMs);
      fired.push(name);
    });
  };
  const late = after(60_000, "late");
  after(0.3, "short");
  while (fired.length === 0) reactor.runOnce(-1);
  after(0.2, "cancelled").cancel();
  after(20, "behind a cancelled one");
  while (fired.length === 1) reactor.runOnce(-1);
  after(0, "at once");
  reactor.runOnce(-1);
  after(2, "last");
  while (fired.length === 3) reactor.runOnce(-1);
  late.cancel();
  expect(fired).toEqual(["short", "behind a cancelled one", "at once", "last"]);
});

test("of many timers that set and cancel each other each fires once, in order, or never", () => {
  using reactor = new Reactor();
  const random = new Random(4711);
  const left = new Map<number, () => void>();
  let count = 0;
  let latestMs = 0; // of those that have fired, when they were due at the earliest
  const set = (): void => {
    const id = count++;
    const delayMs = [0, 0.2, 1, 3][random.below(4)] ?? 0;
    const firstMs = performance.now() + delayMs;
    const { cancel } = reactor.setTimer(delayMs, () => {
      expect(left.delete(id)).toBe(true);
      expect(performance.now()).toBeGreaterThanOrEqual(firstMs);
      expect(lastMs).toBeGreaterThanOrEqual(latestMs);
      latestMs = Math.max(latestMs, firstMs);
      act();
    });
    const lastMs = performance.now() + delayMs;
    left.set(id, cancel);
  };
  const act = (): void => {
    for (let times = random.below(3); times > 0 && count < 2000; times--) set();
    const [first] = left;
    if (first === undefined || random.below(3) > 0) return;
    const [id, cancel] = first;
    cancel();
    left.delete(id);
  };
  while (count < 2000) {
    set();
    for (let turns = 0; turns < 20 && left.size > 0; turns++) reactor.runOnce(-1);
  }
  while (left.size > 0) reactor.runOnce(-1);
  expect(reactor.dueMs).toBe(Number.POSITIVE_INFINITY);
  reactor.runOnce(5); // what was cancelled, or has fired, does not come
});

test("timers come after everybody who is ready in the same turn", () => {
  using reactor = new Reactor();
  using pipes = new Pipes(1);
  const called: string[] = [];
  reactor.setTimer(0.1, () => called.push("timer"));
  const registration = reactor.add(pipes.readers[0] as OwnedFd, EPOLLIN, () => {
    called.push("reader");
    registration.remove();
  });
  Bun.sleepSync(2);
  while (called.length < 2) reactor.runOnce(1000);
  expect(called).toEqual(["reader", "timer"]);
});

test("timers come after a callback has thrown that was ready in the turn in which they were due", () => {
  for (let round = 0; round < 4; round++) {
    using reactor = new Reactor();
    using pipes = new Pipes(1);
    const fired: string[] = [];
    const throwing = reactor.add(pipes.readers[0] as OwnedFd, EPOLLIN, () => {
      throw new Error("our bug");
    });
    reactor.setTimer(1, () => fired.push("due"));
    Bun.sleepSync(2);
    expect(() => reactor.runOnce(-1)).toThrow("our bug");
    throwing.remove();
    reactor.runOnce(-1);
    reactor.setTimer(1, () => reactor.stop());
    reactor.run();
    expect(fired).toEqual(["due"]);
  }
});

test("a reactor for which one descriptor is missing leaves none behind", () => {
  const before = openFds();
  const limit = getFileLimit();
  const { reader, writer } = pipe();
  const lowest = Math.min(reader.number, writer.number);
  for (const fd of [reader, writer]) fd.close();
  setFileLimit({ ...limit, soft: BigInt(lowest + 1) });
  try {
    expect(() => new Reactor()).toThrow("EMFILE");
  } finally {
    setFileLimit(limit);
  }
  expect(openFds()).toEqual(before);
});

test("a timer whose callback throws is over, and those that were due with it come in the next run", () => {
  using reactor = new Reactor();
  const fired: string[] = [];
  reactor.setTimer(1, () => {
    throw new Error("our bug");
  });
  reactor.setTimer(1, () => fired.push("second"));
  reactor.setTimer(3, () => reactor.stop());
  Bun.sleepSync(2);
  expect(() => reactor.run()).toThrow("our bug");
  reactor.run();
  expect(fired).toEqual(["second"]);
});

test("a timer that sets itself again at once does not starve descriptors", () => {
  using reactor = new Reactor();
  using pipes = new Pipes(1);
  const again = (): void => {
    reactor.setTimer(0, again);
  };
  again();
  reactor.add(pipes.readers[0] as OwnedFd, EPOLLIN, () => reactor.stop());
  reactor.run();
});

test("a waiting reactor makes no system call until its timer is due", () => {
  using reactor = new Reactor();
  using pipes = new Pipes(1);
  read(pipes.readers[0] as OwnedFd, new Uint8Array(1));
  reactor.add(pipes.readers[0] as OwnedFd, EPOLLIN, () => undefined);
  let turns = 0;
  reactor.setTimer(300, () => reactor.stop());
  const runOnce = reactor.runOnce.bind(reactor);
  reactor.runOnce = (timeoutMs) => {
    turns += 1;
    runOnce(timeoutMs);
  };
  reactor.run();
  expect(turns).toBeLessThanOrEqual(2); // a second one when the clock of epoll runs a little ahead
});

test("what a callback throws leaves run(), which can be called again", () => {
  using reactor = new Reactor();
  using pipes = new Pipes(1);
  let calls = 0;
  reactor.add(pipes.readers[0] as OwnedFd, EPOLLIN, () => {
    calls += 1;
    if (calls === 1) throw new Error("our bug");
    reactor.stop();
  });
  expect(() => reactor.run()).toThrow("our bug");
  reactor.run();
  expect(calls).toBe(2);
});

test("run() refuses to wait for nothing for ever, and to run inside itself", () => {
  using reactor = new Reactor();
  expect(() => reactor.run()).toThrow("nothing to wait for");
  reactor.setTimer(0, () => reactor.run());
  expect(() => reactor.run()).toThrow("running already");
});

test("a regular file counts as ready until modify(0)", () => {
  using reactor = new Reactor();
  const path = join(tmpdir(), `shmlink-reactor-${process.pid}`);
  using file = open(path, constants.O_RDWR | constants.O_CREAT, 0o600);
  let calls = 0;
  const registration = reactor.add(file, EPOLLOUT, (events) => {
    expect(events).toBe(EPOLLOUT);
    write(file, ONE);
    calls += 1;
    if (calls < 3) return;
    registration.modify(0);
    reactor.setTimer(1, () => reactor.stop());
  });
  reactor.run();
  expect(readFileSync(path).length).toBe(3);
  registration.remove();
  expect(() => reactor.run()).toThrow("nothing to wait for");
  unlinkSync(path);
});

test("one descriptor cannot be registered twice", () => {
  using reactor = new Reactor();
  using pipes = new Pipes(1);
  reactor.add(pipes.readers[0] as OwnedFd, EPOLLIN, () => undefined);
  expect(() => reactor.add(pipes.readers[0] as OwnedFd, EPOLLIN, () => undefined)).toThrow("EEXIST");
});

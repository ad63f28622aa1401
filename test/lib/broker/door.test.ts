/** Who connects to a listening socket is taken in at once, or in turns where many do; the test moves the time and the turns. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { connect, constants, type OwnedFd, socket, unixAddress } from "../../../ffi/mod.ts";
import { Door } from "../../../lib/broker/door.ts";
import { FloodTurns } from "../../../lib/broker/flood-turns.ts";
import { listenOn } from "../../../lib/transport/listen.ts";
import { Reactor } from "../../../lib/transport/reactor.ts";
import { expectNoFdLeaks } from "../../helpers/fd-leak.ts";
import { makeRuntimeDir } from "../../helpers/runtime-dir.ts";

expectNoFdLeaks();

test("Door takes in who comes now and then at once, those of a crowd a few a turn, and asks nothing about who has left", () => {
  using stack = new DisposableStack();
  const path = join(stack.use(makeRuntimeDir()).path, "door");
  const listener = stack.use(listenOn(path));
  const reactor = stack.use(new Reactor());
  const timers: (() => void)[] = [];
  let nowMs = 0;
  let taken = 0;
  const floodTurns = new FloodTurns({ setTimer: (_, callback) => timers.push(callback), now: () => ++nowMs });
  const door = new Door({
    core: { floodTurns, closer: { guardConnection: (fd) => fd } },
    reactor,
    listener,
    context: undefined,
    exhaustion: { warn: () => undefined, spend: () => true },
    receive: ({ fd, uid }) => {
      expect(uid).toBe(process.geteuid?.() ?? -1);
      taken += 1;
      fd.close();
    },
    refuse: ({ fd }) => fd.close(),
    spoiled: () => undefined,
  });
  stack.defer(() => door.close());
  const come = (): OwnedFd => {
    const fd = stack.use(socket(constants.AF_UNIX, constants.SOCK_STREAM));
    connect(fd, unixAddress(path));
    return fd;
  };
  const turn = (): number => {
    const before = taken;
    reactor.runOnce(0);
    return taken - before;
  };
  for (let index = 0; index < 60; index++) come();
  const atOnce = [...Array(12)].map(turn).filter((count) => count > 0); // each takes a millisecond, five are a burst
  expect(atOnce.every((count) => count === 1)).toBe(true);
  expect(atOnce.length).toBeLessThan(10);
  const left = 60 - atOnce.length;
  const inTurns: number[] = [];
  for (let sum = 0; sum < left; sum = inTurns.reduce((all, count) => all + count, 0)) {
    const before = taken;
    timers.shift()?.();
    inTurns.push(taken - before);
    reactor.runOnce(0);
  }
  expect(inTurns.slice(0, 2)).toEqual([16, 16]);
  for (let index = 0; index < 20; index++) come().close();
  come();
  for (let index = 0; index < 4; index++) {
    reactor.runOnce(0);
    timers.shift()?.();
  }
  expect(taken).toBe(61);
});

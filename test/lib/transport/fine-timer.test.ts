import { expect, test } from "bun:test";
import { constants, pipe, write } from "../../../ffi/mod.ts";
import { FineTimer } from "../../../lib/transport/fine-timer.ts";
import { Reactor } from "../../../lib/transport/reactor.ts";
import { expectNoFdLeaks } from "../../helpers/fd-leak.ts";

expectNoFdLeaks();

test("FineTimer calls once for each time that it is set, not before its time, and only for the last", () => {
  using reactor = new Reactor();
  using timer = new FineTimer(reactor);
  const called: string[] = [];
  timer.set(60_000, () => called.push("put off"));
  const startMs = performance.now();
  timer.set(0.3, () => called.push("first"));
  while (called.length === 0) reactor.runOnce(1000);
  expect(performance.now() - startMs).toBeGreaterThanOrEqual(0.3);
  reactor.runOnce(5);
  timer.set(0, () => called.push("second"));
  while (called.length === 1) reactor.runOnce(1000);
  timer.set(1.5, () => called.push("third"));
  while (called.length === 2) reactor.runOnce(1000);
  expect(called).toEqual(["first", "second", "third"]);
});

test("FineTimer lets everybody else who is ready in the same turn go first", () => {
  using reactor = new Reactor();
  using timer = new FineTimer(reactor);
  const { reader, writer } = pipe();
  const called: string[] = [];
  timer.set(0, () => called.push("timer"));
  const registration = reactor.add(reader, constants.EPOLLIN, () => {
    called.push("reader");
    registration.remove();
  });
  Bun.sleepSync(2);
  write(writer, new Uint8Array(1));
  while (called.length < 2) reactor.runOnce(1000);
  expect(called).toEqual(["reader", "timer"]);
  for (const fd of [reader, writer]) fd.close();
});

/** When a session is read again: by whom of the two that may call it. */
import { expect, test } from "bun:test";
import { FloodTurns } from "../../../../lib/broker/flood-turns.ts";
import { RateLimiter } from "../../../../lib/broker/rate.ts";
import { Input, type InputOptions } from "../../../../lib/broker/session/input.ts";

const OWNER = { uid: 1000, context: undefined };
const nothing = (): void => undefined;

/** A peer that has said so many messages, with so many left of its rate. @returns what it then waits for */
function waitsFor(messages: number, allowed: number): string[] {
  const waits: string[] = [];
  const rate = new RateLimiter(1000);
  rate.spend(OWNER, rate.available(OWNER, performance.now()) - allowed, performance.now());
  const connection = {
    messagesLeft: 0,
    waitingFdCount: 0,
    pump(_handle: unknown, limit: number): "more" | "open" {
      this.messagesLeft = Math.max(0, limit - messages);
      return messages > limit ? "more" : "open";
    },
  };
  const options = {
    core: {
      rate,
      floodTurns: new FloodTurns({ setTimer: () => waits.push("its turn") }),
      closer: { checkBacklog: nothing },
    },
    owner: OWNER,
    connection,
    reactor: { setTimer: () => waits.push("a moment") },
    watch: { isHungUp: false, isInputLater: false, apply: nothing },
    handle: nothing,
    handled: nothing,
    settle: nothing,
    ended: nothing,
    failed: (error: unknown) => {
      throw error;
    },
  };
  new Input(options as unknown as InputOptions).ready(false);
  return waits;
}

test("who has said all waits for nothing but its socket", () => {
  expect(waitsFor(10, 100)).toEqual([]);
});

test("who has more to say than a turn's share waits for its turn", () => {
  expect(waitsFor(40, 100)).toEqual(["its turn"]);
});

test("who has more to say than its rate leaves waits for its turn: many of those are a flood, too", () => {
  expect(waitsFor(1000, 5)).toEqual(["its turn"]);
});

test("who has nothing left of its rate waits a moment before anything is read", () => {
  expect(waitsFor(20, -1_000_000)).toEqual(["a moment"]); // a debt of minutes: no pause of ours pays it
});

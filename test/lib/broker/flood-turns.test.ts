/** Turns of those who flood, with a clock and timers that the test moves. */
import { expect, test } from "bun:test";
import { newShare } from "../../../lib/broker/flood-share.ts";
import { FloodTurns } from "../../../lib/broker/flood-turns.ts";

/** @param workMs  what a turn takes */
function rig(workMs: number): { turns: FloodTurns; delays: number[]; fire: () => void; work: () => void } {
  let nowMs = 0;
  const delays: number[] = [];
  const timers: (() => void)[] = [];
  const turns = new FloodTurns({
    setTimer: (delayMs, callback) => {
      delays.push(delayMs);
      timers.push(() => {
        nowMs += delayMs;
        callback();
      });
    },
    now: () => nowMs,
  });
  const work = (): void => {
    nowMs += workMs;
  };
  return { turns, delays, fire: () => timers.shift()?.(), work };
}

test("FloodTurns gives one turn at a time, in the order in which they were asked for", () => {
  const { turns, delays, fire } = rig(0);
  const taken: string[] = [];
  for (const name of ["a", "b", "c"]) turns.await(newShare(), () => taken.push(name));
  expect([taken, delays.length]).toEqual([[], 1]);
  fire();
  expect([taken, delays.length]).toEqual([["a"], 2]);
  fire();
  fire();
  expect([taken, delays.length]).toEqual([["a", "b", "c"], 3]);
});

test("FloodTurns waits at least as long as a turn took before the next one, also of the same session", () => {
  const { turns, delays, fire, work } = rig(3);
  const again = (): void => {
    work();
    turns.await(who, again);
  };
  const who = newShare();
  turns.await(who, again);
  for (let round = 0; round < 4; round++) fire();
  expect(delays.slice(1)).toEqual([3, 3, 3, 3]);
});

test("FloodTurns prefers who has used the least, and lets him not wait as long", () => {
  const { turns, delays, fire, work } = rig(2);
  const taken: string[] = [];
  const greedy = newShare();
  const again = (): void => {
    work();
    turns.heard(newShare(), turns.nowMs); // somebody else is there
    taken.push("greedy");
    if (taken.length < 20) turns.await(greedy, again);
  };
  turns.await(greedy, again);
  for (let round = 0; round < 10; round++) fire();
  expect(delays.at(-1)).toBeGreaterThan(4);
  turns.await(newShare(), () => taken.push("modest"));
  expect(delays.at(-1)).toBeLessThanOrEqual(2);
  fire(); // the one that was set for who is greedy has no effect any more
  fire();
  expect(taken.slice(-1)).toEqual(["modest"]);
});

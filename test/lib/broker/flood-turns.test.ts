/** Turns of those who flood, with a clock and timers that the test moves. */
import { expect, test } from "bun:test";
import { FloodTurns } from "../../../lib/broker/flood-turns.ts";

/** @param workMs  what a turn takes */
function rig(workMs: number): { turns: FloodTurns; delays: number[]; fire: () => void; work: () => void } {
  let nowMs = 0;
  const delays: number[] = [];
  const timers: (() => void)[] = [];
  const turns = new FloodTurns(
    (delayMs, callback) => {
      delays.push(delayMs);
      timers.push(callback);
    },
    () => nowMs,
  );
  const work = (): void => {
    nowMs += workMs;
  };
  return { turns, delays, fire: () => timers.shift()?.(), work };
}

test("FloodTurns gives one turn at a time, in the order in which they were asked for", () => {
  const { turns, delays, fire } = rig(0);
  const taken: string[] = [];
  for (const name of ["a", "b", "c"]) turns.await(() => taken.push(name));
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
    turns.await(again);
  };
  turns.await(again);
  for (let round = 0; round < 4; round++) fire();
  expect(delays.slice(1)).toEqual([3, 3, 3, 3]);
});

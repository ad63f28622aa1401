/** Which way of sleeping is used: the one that has taken less of late, and the other now and then. */
import { expect, test } from "bun:test";
import { SleepChoice } from "../../../lib/client/sleep-choice.ts";

/** Answers that take so long. @returns how many of them were slept for in recvmsg(2) */
function answers(choice: SleepChoice, count: number, receiveMs: number, pollMs: number): number {
  let inReceive = 0;
  for (let index = 0; index < count; index++) {
    const { isInReceive } = choice;
    if (isInReceive) inReceive += 1;
    choice.took(isInReceive ? receiveMs : pollMs);
  }
  return inReceive;
}

test("the faster way is used, and the other one tried now and then", () => {
  const choice = new SleepChoice();
  expect(answers(choice, 64, 0.06, 0.09)).toBe(32); // both take turns at first
  expect(answers(choice, 660, 0.06, 0.09)).toBe(640);
  const other = new SleepChoice();
  answers(other, 64, 0.02, 0.019);
  expect(answers(other, 660, 0.02, 0.019)).toBe(20);
});

test("where the broker moves to the other kind of place, so does the choice", () => {
  const choice = new SleepChoice();
  answers(choice, 640, 0.06, 0.09);
  answers(choice, 990, 0.02, 0.018);
  expect(answers(choice, 660, 0.02, 0.018)).toBe(20);
  answers(choice, 640, 0.06, 0.09);
  expect(answers(choice, 660, 0.06, 0.09)).toBe(640);
});

test("one answer that takes very long changes nothing", () => {
  const choice = new SleepChoice();
  answers(choice, 640, 0.06, 0.09);
  while (!choice.isInReceive) choice.took(0.09);
  choice.took(1000);
  expect(answers(choice, 660, 0.06, 0.09)).toBe(640);
});

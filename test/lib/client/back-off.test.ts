import { expect, test } from "bun:test";
import { BackOff } from "../../../lib/client/back-off.ts";

test("when to look for a broker again is short at first, longer each time, and bounded", () => {
  const backOff = new BackOff();
  const delays = Array.from({ length: 14 }, () => backOff.next());
  expect(delays.slice(0, 4)).toEqual([0, 20, 40, 80]);
  expect(delays.at(-1)).toBe(10_000);
  backOff.connected(0);
  backOff.ended(5_000); // one that ends at once is no reason to hurry
  expect(backOff.next()).toBe(10_000);
  backOff.connected(20_000);
  backOff.ended(40_000);
  expect(backOff.next()).toBe(0);
});

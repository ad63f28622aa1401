/** How long the system is asked to wait. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { constants, pollOne, timerCreate, timerSet } from "../../../ffi/mod.ts";
import { setTimespec } from "../../../ffi/sys/timespec.ts";

/** Seconds and nanoseconds. */
function timespec(milliseconds: number, leastNs?: number): [number, number] {
  const data = new DataView(new ArrayBuffer(24));
  setTimespec(data, 8, milliseconds, leastNs);
  expect(data.getBigUint64(0)).toBe(0n);
  return [Number(data.getBigUint64(8, true)), Number(data.getBigUint64(16, true))];
}

test("a timespec is the time to the nanosecond below, never negative, and at most 68 years", () => {
  fc.assert(
    fc.property(fc.double({ min: 0, max: 1e12, noNaN: true }), (milliseconds) => {
      const [seconds, nanoseconds] = timespec(milliseconds);
      expect(nanoseconds).toBeLessThan(1e9);
      expect(seconds * 1000 + nanoseconds / 1e6).toBeCloseTo(milliseconds, 3);
    }),
  );
  expect(timespec(-1)).toEqual([0, 0]);
  for (const long of [2 ** 31 * 1000, 2 ** 32 * 1000, 1e300, Number.POSITIVE_INFINITY])
    expect(timespec(long)).toEqual([2 ** 31 - 1, 0]);
});

test("the least is for what is shorter, and only for that", () => {
  expect(timespec(0, 1)).toEqual([0, 1]);
  expect(timespec(-5, 1)).toEqual([0, 1]);
  expect(timespec(1, 1)).toEqual([0, 1e6]);
  expect(timespec(3000, 1)).toEqual([3, 0]);
});

test("a timer for longer than the system's words hold does not run out at once", () => {
  using timer = timerCreate();
  timerSet(timer, 2 ** 32 * 1000);
  expect(pollOne(timer, constants.EPOLLIN, 30)).toBe(0);
  timerSet(timer, 0);
  expect(pollOne(timer, constants.EPOLLIN, -1)).toBe(constants.EPOLLIN);
});

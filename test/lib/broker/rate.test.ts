import { expect, test } from "bun:test";
import { RateLimiter } from "../../../lib/broker/rate.ts";

const ANN = { uid: 1, context: undefined };
const BOB = { uid: 2, context: undefined };

test("a burst of a tenth of a second, then as many as the time earns", () => {
  const limiter = new RateLimiter(1000);
  expect(limiter.available(ANN, 0)).toBe(100);
  limiter.spend(ANN, 100, 0);
  expect(limiter.available(ANN, 0)).toBe(0);
  expect(limiter.waitMs(ANN, 10, 0)).toBe(10);
  expect(limiter.available(ANN, 10)).toBe(10);
  expect(limiter.available(ANN, 10_000)).toBe(100);
});

test("one account's debt is not another's", () => {
  const limiter = new RateLimiter(1000);
  limiter.spend(ANN, 150, 0);
  expect(limiter.available(ANN, 49)).toBe(0);
  expect(limiter.available(ANN, 51)).toBe(1);
  expect(limiter.available(BOB, 0)).toBe(100);
  expect(limiter.available({ uid: 1, context: { engine: "e", app: "a", instance: "i" } }, 0)).toBe(100);
});

test("over any stretch of time nobody gets more than the burst and what the time earns", () => {
  const limiter = new RateLimiter(500);
  let got = 0;
  for (let nowMs = 0; nowMs <= 3000; nowMs += 3) {
    const count = limiter.available(ANN, nowMs);
    limiter.spend(ANN, count, nowMs);
    got += count;
  }
  expect(got).toBeLessThanOrEqual(50 + 1500);
  expect(got).toBeGreaterThanOrEqual(50 + 1490);
});

test("accounts that have been quiet are forgotten, those in debt are not", () => {
  const limiter = new RateLimiter(1000);
  limiter.spend(ANN, 1000, 0);
  for (let uid = 10; uid < 400; uid++) limiter.spend({ uid, context: undefined }, 1, 0);
  expect(limiter.available(ANN, 800)).toBe(0);
});

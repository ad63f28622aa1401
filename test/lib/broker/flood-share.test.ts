/** What is left of the broker's time to who has used a lot of it, with a clock that the test moves. */
import { expect, test } from "bun:test";
import { type Share, SharePolicy } from "../../../lib/broker/flood-share.ts";

const nobody = (): Share => ({ usedMs: 0, atMs: 0 });

test("SharePolicy leaves a burst half of the time, and who goes on a tenth, while others speak", () => {
  const policy = new SharePolicy();
  const who = nobody();
  const other = nobody();
  policy.heard(other, 0);
  policy.spend(who, 4, 0);
  expect([policy.pauseFactor(who, 0), policy.isGreedy(who, 0)]).toEqual([1, false]);
  policy.spend(who, 16, 0);
  expect([policy.pauseFactor(who, 0), policy.isGreedy(who, 0)]).toEqual([4, true]);
  policy.spend(who, 1000, 0);
  expect([policy.pauseFactor(who, 0), policy.pauseFactor(other, 0)]).toEqual([9, 1]);
});

test("SharePolicy holds nobody up while no one else says anything, and one who floods is no one else", () => {
  const policy = new SharePolicy();
  const who = nobody();
  policy.spend(who, 1000, 0);
  policy.heard(who, 0);
  expect(policy.pauseFactor(who, 0)).toBe(1);
  policy.heard(nobody(), 100);
  expect([policy.pauseFactor(who, 100), policy.pauseFactor(who, 121)]).toEqual([9, 1]);
});

test("SharePolicy forgets what was used a second ago, however much it was, and what is a twentieth of the time", () => {
  const policy = new SharePolicy();
  const who = nobody();
  policy.spend(who, 1_000_000, 0);
  expect([policy.isGreedy(who, 800), policy.usedMs(who, 1000)]).toEqual([true, 0]);
  for (let ms = 1000; ms < 11_000; ms += 20) policy.spend(who, 1, ms);
  expect(policy.isGreedy(who, 11_000)).toBe(false);
});

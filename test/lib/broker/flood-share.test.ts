/** What is left of the broker's time to who has used a lot of it, with a clock that the test moves. */
import { expect, test } from "bun:test";
import { newShare, type Share, SharePolicy } from "../../../lib/broker/flood-share.ts";
import { Shares } from "../../../lib/broker/shares.ts";
import { usedMs } from "../../../lib/broker/used.ts";

/** One who comes back, or has another connection. */
const another = ({ all }: Share): Share => newShare(all);

test("SharePolicy leaves a burst half of the time, and who goes on a tenth, while others speak", () => {
  const policy = new SharePolicy();
  const who = newShare();
  const other = newShare();
  policy.heard(other, 0);
  policy.spend(who, 4, 0);
  expect([policy.pauseMs(who, 1, 0), policy.isGreedy(who, 0)]).toEqual([1, false]);
  policy.spend(who, 16, 0);
  expect([policy.pauseMs(who, 1, 0), policy.isGreedy(who, 0)]).toEqual([4, true]);
  policy.spend(who, 1000, 0);
  expect([policy.pauseMs(who, 1, 0), policy.pauseMs(other, 1, 0)]).toEqual([9, 1]);
});

test("SharePolicy holds nobody up while no one else says anything, and one who floods is no one else", () => {
  const policy = new SharePolicy();
  const who = newShare();
  policy.spend(who, 1000, 0);
  policy.heard(who, 0);
  expect(policy.pauseMs(who, 1, 0)).toBe(1);
  policy.heard(newShare(), 100);
  expect([policy.pauseMs(who, 1, 100), policy.pauseMs(who, 1, 121)]).toEqual([9, 1]);
});

test("SharePolicy forgets what was used a second ago, however much it was, and what is a twentieth of the time", () => {
  const policy = new SharePolicy();
  const who = newShare();
  policy.spend(who, 1_000_000, 0);
  expect([policy.isGreedy(who, 800), usedMs(who.all, 1000)]).toEqual([true, 0]);
  for (let ms = 1000; ms < 11_000; ms += 20) policy.spend(who, 1, ms);
  expect(policy.isGreedy(who, 11_000)).toBe(false);
});

test("SharePolicy begins with who comes again where he was, and his other connections are heard all the same", () => {
  const policy = new SharePolicy();
  const who = newShare();
  policy.spend(who, 1000, 0);
  const again = another(who);
  policy.heard(newShare(), 0);
  expect([policy.isGreedy(again, 0), policy.pauseMs(again, 1, 0)]).toEqual([true, 9]);
  expect(policy.isGreedy(newShare(), 0)).toBe(false);
  policy.heard(again, 100); // he says something, and has not flooded
  expect(policy.pauseMs(who, 1, 100)).toBe(usedMs(who.all, 100) / 5);
});

test("SharePolicy prefers who has used less, and of two connections of one user the one that has", () => {
  const policy = new SharePolicy();
  const who = newShare();
  const sibling = another(who);
  const other = newShare();
  policy.spend(who, 10, 0);
  policy.spend(other, 5, 0);
  expect(policy.isBefore(other, who, 0)).toBe(true);
  expect(policy.isBefore(other, sibling, 0)).toBe(true);
  expect(policy.isBefore(sibling, who, 0)).toBe(true);
  expect(policy.isBefore(who, sibling, 0)).toBe(false);
});

/** @param perMs  how often somebody else asks, for twenty milliseconds @returns how long a flood pauses then */
function pauseBeside(perMs: number): number {
  const policy = new SharePolicy();
  const who = newShare();
  const other = newShare();
  for (let at = 0; at < 20; at += 1 / perMs) policy.heard(other, at);
  policy.spend(who, 1000, 20);
  return policy.pauseMs(who, 0.05, 20);
}

test("SharePolicy lets those who ask all the time ask 256 times between two turns of a flood, or for six milliseconds", () => {
  expect(pauseBeside(64)).toBeCloseTo(256 / 64, 1);
  expect(pauseBeside(20)).toBe(6);
  expect(pauseBeside(5)).toBeCloseTo(9 * 0.05, 5); // who asks now and then meets few turns as it is
});

test("Shares are one for all of a user, and others for others and for contexts, also after many have come and gone", () => {
  const shares = new Shares();
  const policy = new SharePolicy();
  const context = { engine: "e", app: "a", instance: "i" };
  policy.spend(shares.of({ uid: 1, context: undefined }, 0), 50, 0);
  for (let uid = 1000; uid < 2000; uid++) shares.of({ uid, context: undefined }, 0);
  expect(policy.isGreedy(shares.of({ uid: 1, context: undefined }, 0), 0)).toBe(true);
  expect(policy.isGreedy(shares.of({ uid: 2, context: undefined }, 0), 0)).toBe(false);
  expect(policy.isGreedy(shares.of({ uid: 1, context }, 0), 0)).toBe(false);
});

/** Many who ask for little each, with a clock that the test moves: who counts as one, and when they have to wait. */
import { expect, test } from "bun:test";
import { CrowdPolicy, type Crowds, newCrowd, newCrowds } from "../../../lib/broker/crowds.ts";
import type { Share } from "../../../lib/broker/flood-share.ts";
import { Shares } from "../../../lib/broker/shares.ts";

/** So many of those say so much in a turn of the loop, each for a millisecond. @returns when it is over */
function turn(policy: CrowdPolicy, those: readonly Crowds[], requests: number, startMs: number): number {
  let nowMs = startMs;
  policy.nextTurn();
  for (const one of those) {
    policy.heard(one, nowMs);
    nowMs += 1;
    policy.answered(one, requests, 1, nowMs);
  }
  return nowMs;
}

/** Somebody else says something. */
function speak(policy: CrowdPolicy, nowMs: number): void {
  policy.heard(newCrowds(), nowMs);
}

test("CrowdPolicy makes those of one process wait who ask for much together, as long as somebody else speaks", () => {
  const policy = new CrowdPolicy();
  const crowds = newCrowds();
  const endMs = turn(policy, [crowds, crowds, crowds, crowds, crowds, crowds, crowds, crowds], 31, 0);
  expect(policy.crowdOf(crowds, endMs)).toBeUndefined(); // there is nobody else
  speak(policy, endMs);
  expect(policy.crowdOf(crowds, endMs)).toBe(crowds.process);
  expect(policy.crowdOf(crowds, endMs + 21)).toBeUndefined();
  policy.heard(crowds, endMs + 21);
  expect(policy.crowdOf(crowds, endMs + 21)).toBeUndefined(); // that was they themselves
  speak(policy, endMs + 100);
  expect(policy.crowdOf(crowds, endMs + 100)).toBeUndefined(); // forgotten
});

test("CrowdPolicy counts nobody who asks for a few things a turn, however long", () => {
  const policy = new CrowdPolicy();
  const [one, three, many] = [newCrowds(), newCrowds(), newCrowds()];
  let nowMs = 0;
  for (let round = 0; round < 1000; round++) {
    nowMs = turn(policy, [one], 12, nowMs); // a dial and what goes with it
    nowMs = turn(policy, [three, three, three], 1, nowMs);
    nowMs = turn(policy, [many, many, many, many], 1, nowMs);
  }
  const those = [one, three, many].map((crowds) => policy.crowdOf(crowds, nowMs));
  expect(those).toEqual([undefined, undefined, many.process]);
});

test("CrowdPolicy counts many processes of one user together, but not one of them that is a crowd by itself", () => {
  const [account, crowded] = [newCrowd(), newCrowd()];
  const processes = Array.from({ length: 32 }, () => ({ process: newCrowd(), crowded, account }));
  const other = { process: newCrowd(), crowded, account };
  const policy = new CrowdPolicy();
  let nowMs = turn(policy, processes, 3, 0);
  policy.heard(other, nowMs); // of the same user
  expect(policy.crowdOf(other, nowMs)).toBeUndefined();
  speak(policy, nowMs);
  expect(policy.crowdOf(other, nowMs)).toBe(account);

  const [first = other] = processes;
  nowMs += 2000;
  nowMs = turn(policy, Array(16).fill(first), 3, nowMs);
  speak(policy, nowMs);
  expect([policy.crowdOf(first, nowMs), policy.crowdOf(other, nowMs)]).toEqual([first.process, undefined]);
});

test("CrowdPolicy counts together what many processes of one user have beyond theirs, though each has little of it", () => {
  const [account, crowded] = [newCrowd(), newCrowd()];
  const processes = Array.from({ length: 8 }, () => ({ process: newCrowd(), crowded, account }));
  const other = { process: newCrowd(), crowded, account };
  const policy = new CrowdPolicy();
  const nowMs = turn(policy, processes, 31, 0); // a millisecond each
  expect(processes.map((one) => policy.crowdOf(one, nowMs))).toEqual(processes.map(() => undefined)); // all of one user
  speak(policy, nowMs);
  expect(processes.map((one) => policy.crowdOf(one, nowMs)).at(-1)).toBe(crowded);
  expect(policy.crowdOf(other, nowMs)).toBeUndefined();
});

test("Shares of one process are of one crowd, and of another one than those of another process or another context", () => {
  const shares = new Shares();
  const context = { engine: "e", app: "a", instance: "i" };
  const of = (uid: number, pid: number, where?: typeof context): Share["crowds"] =>
    shares.of({ uid, pid, context: where }, 0).crowds;
  const one = of(1, 10);
  expect(of(1, 10).process).toBe(one.process);
  expect(of(1, 11).process).not.toBe(one.process);
  expect(of(1, 11).account).toBe(one.account);
  expect(of(1, 10, context).process).not.toBe(one.process);
  expect(of(1, 10, context).account).not.toBe(one.account);
  expect(of(2, 10).account).not.toBe(one.account);
  const minted = shares.of({ uid: 1, pid: 10, context: undefined, grants: {} }, 0).crowds; // whoever was given it
  expect([minted.account === one.account, minted.process === one.process]).toEqual([true, false]);
});

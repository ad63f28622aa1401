import { expect, test } from "bun:test";
import { agree, BOTH, directionName, RECEIVE, SEND, type Wish } from "../../../lib/broker/directions.ts";
import { GrantSet } from "../../../lib/broker/grants.ts";

const RIGHTS = { dial: 1, send: 64, receive: 128 };

function wish(directions: number, ...rights: readonly (keyof typeof RIGHTS)[]): Wish {
  if (rights.length === 0) return { directions, grants: undefined };
  const grants = new GrantSet(undefined);
  for (const right of rights) grants.add({ rights: RIGHTS[right], name: "db" });
  return { directions, grants };
}

test("agree() gives the directions that both sides want and both were granted", () => {
  expect(agree("db", wish(BOTH), wish(BOTH))).toEqual([true, true]);
  expect(agree("db", wish(SEND), wish(BOTH))).toEqual([true, false]);
  expect(agree("db", wish(BOTH), wish(SEND))).toEqual([false, true]);
  expect(agree("db", wish(RECEIVE), wish(SEND))).toEqual([false, true]);
  expect(agree("db", wish(BOTH, "send"), wish(BOTH))).toEqual([true, false]);
  expect(agree("db", wish(BOTH), wish(BOTH, "send"))).toEqual([false, true]);
  expect(agree("db", wish(BOTH, "send", "receive"), wish(BOTH, "receive"))).toEqual([true, false]);
  expect(agree("db", wish(BOTH, "dial"), wish(BOTH))).toEqual([true, true]);
});

test("agree() refuses when no direction is left, and says who may do what", () => {
  const refusals = [
    [wish(SEND), wish(SEND), "the dialler may only send and the service may only send"],
    [wish(RECEIVE, "send"), wish(BOTH), "the dialler may do neither and the service may do both"],
    [wish(BOTH, "receive"), wish(BOTH, "receive"), "may only receive and the service may only receive"],
  ] as const;
  for (const [dialler, service, why] of refusals) expect(agree("db", dialler, service)).toContain(why);
});

test("directionName() tells the ways that have a ring", () => {
  expect([directionName(4096, 4096), directionName(4096, 0), directionName(0, 4096)]).toEqual([
    "both",
    "to-service",
    "to-dialler",
  ]);
});

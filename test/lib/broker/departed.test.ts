/** Sessions of those who have left, when somebody of the same user or context needs room. */
import { expect, test } from "bun:test";
import { Departed, type Leavable } from "../../../lib/broker/departed.ts";
import type { Account } from "../../../lib/broker/quota.ts";

const context = { engine: "e", app: "a", instance: "i" };

class Sessions {
  readonly all: Set<Leavable> = new Set();
  looked = 0;

  add(owner: Account, isLeft: boolean): Leavable {
    const count = (): void => {
      this.looked += 1;
    };
    const session: Leavable = {
      owner,
      get isLeft() {
        count();
        return isLeft;
      },
      end: () => this.all.delete(session),
    };
    this.all.add(session);
    return session;
  }
}

test("Departed ends sessions that were left, of the same user and the same context alone", () => {
  const sessions = new Sessions();
  const departed = new Departed(() => sessions.all);
  const kept = [
    sessions.add({ uid: 1, context: undefined }, false),
    sessions.add({ uid: 2, context: undefined }, true),
    sessions.add({ uid: 1, context }, true),
  ];
  sessions.add({ uid: 1, context: undefined }, true);
  expect(departed.letGo({ uid: 1, context: undefined }, 0)).toBe(true);
  expect([...sessions.all]).toEqual(kept);
  expect(departed.letGo({ uid: 1, context: undefined }, 1000)).toBe(false);
});

test("Departed ends 64 at once, and looks for them once in 20 ms, however often somebody comes", () => {
  const sessions = new Sessions();
  const departed = new Departed(() => sessions.all);
  const who = { uid: 1, context: undefined };
  for (let count = 0; count < 100; count++) sessions.add(who, true);
  expect([departed.letGo(who, 0), sessions.all.size]).toEqual([true, 36]);
  for (let ms = 0; ms < 20; ms++) expect(departed.letGo(who, ms)).toBe(false);
  expect([sessions.all.size, sessions.looked]).toEqual([36, 64]);
  expect([departed.letGo(who, 20), sessions.all.size]).toEqual([true, 0]);
});

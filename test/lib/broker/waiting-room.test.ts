/** Who is let in at once and who waits, with a rate, turns and timers that the test moves. */
import { expect, test } from "bun:test";
import { constants, type OwnedFd, socketpair } from "../../../ffi/mod.ts";
import type { Newcomer } from "../../../lib/broker/door.ts";
import { FloodTurns } from "../../../lib/broker/flood-turns.ts";
import { Quota } from "../../../lib/broker/quota.ts";
import { RateLimiter } from "../../../lib/broker/rate.ts";
import { WaitingRoom } from "../../../lib/broker/waiting-room.ts";
import { builtInConfig } from "../../../lib/config/schema.ts";
import { expectNoFdLeaks } from "../../helpers/fd-leak.ts";

expectNoFdLeaks();

class Rig implements Disposable {
  nowMs = 0;
  readonly admitted: number[] = [];
  readonly refused: string[] = [];
  emptied = 0;
  /** Users of whom fifty sessions have been left. */
  readonly departing: Set<number> = new Set();
  readonly quota: Quota = new Quota({ ...builtInConfig.limits, maxSessionsPerUser: 200 });
  readonly rate: RateLimiter = new RateLimiter(1_000_000);
  readonly turns: FloodTurns;
  readonly room: WaitingRoom;
  readonly #timers: (() => void)[] = [];
  readonly #far: OwnedFd[] = [];

  constructor() {
    const setTimer = (_: number, callback: () => void): number => this.#timers.push(callback);
    this.turns = new FloodTurns({ setTimer, now: () => this.nowMs });
    this.room = new WaitingRoom({
      core: { floodTurns: this.turns, quota: this.quota, rate: this.rate },
      reactor: { setTimer: (delayMs, callback) => ({ cancel: () => undefined, at: setTimer(delayMs, callback) }) },
      admit: ({ fd, uid }) => {
        this.admitted.push(uid);
        fd.close();
      },
      makeRoom: ({ uid }) => {
        const hasRoom = this.departing.delete(uid);
        if (hasRoom) this.quota.release({ uid, context: undefined }, { sessions: 50 });
        return hasRoom;
      },
      refuse: ({ fd }, why) => {
        this.refused.push(why);
        fd.close();
      },
      emptied: () => {
        this.emptied += 1;
      },
    });
  }

  /** @returns the newcomer's own end */
  come(uid: number): OwnedFd {
    const [fd, far] = socketpair(constants.SOCK_STREAM | constants.SOCK_NONBLOCK);
    this.#far.push(far);
    this.room.receive({ fd, uid, context: undefined } satisfies Newcomer);
    return far;
  }

  /** That user has used a lot of the broker's time. */
  flood(uid: number): void {
    this.turns.run(this.turns.shareOf({ uid, context: undefined }), () => {
      this.nowMs += 50;
    });
  }

  /** Every timer that is set now comes due. */
  fire(): void {
    for (const callback of this.#timers.splice(0)) callback();
  }

  [Symbol.dispose](): void {
    this.room[Symbol.dispose]();
    for (const fd of this.#far) fd.close();
  }
}

test("WaitingRoom lets in at once who has not used much, whatever others do", () => {
  using rig = new Rig();
  rig.flood(1);
  for (let index = 0; index < 3; index++) rig.come(1);
  expect([rig.admitted, rig.room.size]).toEqual([[], 3]);
  rig.come(2);
  expect([rig.admitted, rig.room.size]).toEqual([[2], 3]);
});

test("WaitingRoom lets in one of a flood in a turn, and lets go of who has left without asking who he was", () => {
  using rig = new Rig();
  rig.flood(1);
  const [first, second] = [rig.come(1), rig.come(1)];
  rig.come(1);
  rig.come(1);
  first.close();
  second.close();
  rig.fire();
  expect([rig.admitted, rig.room.size]).toEqual([[1], 1]);
  rig.fire();
  expect([rig.admitted, rig.room.size]).toEqual([[1, 1], 0]);
});

test("WaitingRoom has room for as many of a user as he may have sessions, and says why to the others", () => {
  using rig = new Rig();
  rig.flood(1);
  rig.flood(2);
  rig.quota.charge({ uid: 1, context: undefined }, { sessions: 50 });
  for (let index = 0; index < 150; index++) rig.come(1);
  expect([rig.room.size, rig.refused]).toEqual([150, []]);
  rig.come(1);
  expect(rig.room.size).toBe(150);
  expect(rig.refused).toEqual(["user 1 would have 201 sessions, limits.maxSessionsPerUser is 200"]);
  rig.come(2);
  expect(rig.room.size).toBe(151);
});

test("WaitingRoom gives back what who waits counts for, whether he is let in, has left, or is still there at the end", () => {
  const rig = new Rig();
  rig.flood(1);
  rig.come(1).close();
  rig.come(1);
  rig.come(1);
  expect(rig.quota.isEmpty).toBe(false);
  rig.fire();
  expect([rig.admitted, rig.room.size]).toEqual([[1], 1]);
  rig[Symbol.dispose]();
  expect([rig.room.size, rig.quota.isEmpty]).toEqual([0, true]);
});

test("WaitingRoom waits until the rate of a user allows for one", () => {
  using rig = new Rig();
  rig.rate.spend({ uid: 1, context: undefined }, 100_000_000, performance.now());
  rig.come(1);
  rig.come(2);
  expect([rig.admitted, rig.room.size]).toEqual([[2], 1]);
  rig.fire(); // it looks again, and there is no more than before
  expect([rig.admitted, rig.room.size]).toEqual([[2], 1]);
});

test("WaitingRoom says when nobody waits any more, also when they have all left", () => {
  using rig = new Rig();
  rig.flood(1);
  for (const far of [rig.come(1), rig.come(1), rig.come(1)]) far.close();
  expect([rig.room.size, rig.emptied]).toEqual([3, 0]);
  rig.fire();
  expect([rig.admitted, rig.room.size, rig.emptied]).toEqual([[], 0, 1]);
});

test("WaitingRoom lets nobody be refused for the sake of those who have left, waiting or let in before", () => {
  using rig = new Rig();
  rig.flood(1);
  rig.quota.charge({ uid: 1, context: undefined }, { sessions: 50 });
  const waiting = Array.from({ length: 150 }, () => rig.come(1));
  for (const far of waiting.slice(60, 70)) far.close();
  const comesUntilRoom = (): number => {
    for (let count = 1; ; count++) {
      rig.come(1);
      if (rig.refused.length < count) return count;
      if (count > 1000) throw new Error("Nobody has found room");
    }
  };
  expect(comesUntilRoom()).toBeLessThanOrEqual(Math.ceil(70 / 16)); // sixteen are looked at each time
  expect(rig.room.size).toBeLessThanOrEqual(150);
  for (let count = 0; count < 20; count++) rig.come(1); // all of the ten have been found
  rig.refused.length = 0;
  rig.come(1);
  expect(rig.refused.length).toBe(1);
  rig.departing.add(1);
  rig.come(1);
  expect([rig.refused.length, rig.room.size]).toEqual([1, 151]);
});

test("a queue whose last has left is called once, and forgets nobody who comes after", () => {
  const rig = new Rig();
  rig.flood(1);
  rig.quota.charge({ uid: 1, context: undefined }, { sessions: 2 });
  const waiting = [rig.come(1), rig.come(1), rig.come(1)];
  for (let uid = 2; uid < 14; uid++)
    while (rig.quota.charge({ uid, context: undefined }, { sessions: 1 }) === undefined);
  for (const far of waiting) far.close();
  rig.come(1); // finds nobody but those who have left, and no room all the same
  rig.quota.release({ uid: 1, context: undefined }, { sessions: 2 });
  for (let turn = 0; turn < 3; turn++) {
    rig.come(1);
    rig.fire();
    rig.nowMs += 1;
  }
  rig.come(1);
  rig.come(1);
  rig[Symbol.dispose]();
  expect(rig.room.size).toBe(0);
});

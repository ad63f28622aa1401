/** What of one user, or of one context, is still to be closed: one thread at a time works for it, and the rest waits. */
import type { ClosingThread } from "./closing-threads.ts";
import type { Account } from "./quota.ts";

/** How long those wait for others that are in no hurry. */
export const LAZY_MS = 10;
/** What is not closed by then is late: until then it is no concern of the quota. */
const LATE_MS = 100;
/** So many of those are given to a thread at once. */
const BATCH = 16;

export type Lane = {
  readonly who: Account;
  readonly key: string;
  readonly waiting: number[];
  /** Whether all that wait may wait for others. */
  isLazy: boolean;
  /** What the thread has, how many, and since when. */
  thread: ClosingThread | undefined;
  given: number;
  sinceMs: number;
  /** When each came that is not closed: those that the thread has, then those that wait. */
  readonly cameMs: number[];
  /** How many of them, the first ones, are late; and how many are charged for that. */
  late: number;
  charged: number;
};

export function newLane(who: Account, key: string, nowMs: number): Lane {
  return {
    who,
    key,
    waiting: [],
    isLazy: true,
    thread: undefined,
    given: 0,
    sinceMs: nowMs,
    cameMs: [],
    late: 0,
    charged: 0,
  };
}

/** Notes what has come since the last time, and what has become late. */
export function keepTime(lane: Lane, nowMs: number): void {
  const { cameMs, waiting, given } = lane;
  while (cameMs.length < given + waiting.length) cameMs.push(nowMs);
  while (nowMs - (cameMs[lane.late] ?? nowMs) > LATE_MS) lane.late += 1;
}

/** The first `count` are closed. */
export function forget(lane: Lane, count: number): void {
  lane.cameMs.splice(0, count);
  lane.late = Math.max(lane.late - count, 0);
}

/** Whether a thread is to have what waits. @param maxFds  of its user: that we wait is not to bring him near his limit */
export function isTime({ waiting, isLazy, sinceMs }: Lane, nowMs: number, maxFds: number): boolean {
  if (waiting.length === 0) return false;
  if (!isLazy || nowMs - sinceMs >= LAZY_MS) return true;
  return waiting.length >= Math.min(BATCH, Math.floor(maxFds / 4));
}

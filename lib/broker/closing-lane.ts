/** What of one user, or of one context, is still to be closed: one thread at a time works for it, and the rest waits. */
import type { ClosingThread } from "./closing-threads.ts";
import type { Account } from "./quota.ts";

/** How long those wait for others that are in no hurry. */
export const LAZY_MS = 10;
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
  /** Charged: it is late. */
  charged: number;
};

export function newLane(who: Account, key: string, nowMs: number): Lane {
  return { who, key, waiting: [], isLazy: true, thread: undefined, given: 0, sinceMs: nowMs, charged: 0 };
}

/** Whether a thread is to have what waits. @param maxFds  of its user: that we wait is not to bring him near his limit */
export function isTime({ waiting, isLazy, sinceMs }: Lane, nowMs: number, maxFds: number): boolean {
  if (waiting.length === 0) return false;
  if (!isLazy || nowMs - sinceMs >= LAZY_MS) return true;
  return waiting.length >= Math.min(BATCH, Math.floor(maxFds / 4));
}

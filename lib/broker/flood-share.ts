/** How much of the broker's time somebody has used lately, and what that leaves him. Pure: the time is handed in. */
import { type Crowds, newCrowds } from "./crowds.ts";
import { HEARD_MS, type Used, use, usedMs } from "./used.ts";

/**
 * Of one session, of somebody who wants one, or of a listening socket. What counts is what all of the same user, or of the
 * same context, have used: who comes again begins where he was, and many connections have no more than one.
 */
export type Share = Used & {
  /** Of all of them together. */
  readonly all: Used;
  readonly crowds: Crowds;
};

/** A burst of many hundreds of requests. */
const BURST_MS = 5;
/** The longest pause, in times of what the turn took: a tenth of the time is left. */
const MOST = 9;
/** Over what time it is counted how often others say something. */
const WINDOW_MS = 5;
/** Who asks more often than that, a millisecond, would notice each single turn, however short. */
const BUSY = 10;
/** Of those who ask that often: at most one request in a hundred is to meet a turn, and one turn is felt by two or three. */
const BETWEEN_TURNS = 256;
/** However many they are. */
const MAX_BETWEEN_MS = 6;

export class SharePolicy {
  #heardMs: number = Number.NEGATIVE_INFINITY;
  #windowMs = 0;
  #heardInWindow = 0;
  /** How often others ask, a millisecond. */
  #heardPerMs = 0;

  spend(who: Share, ms: number, nowMs: number): void {
    use(who, ms, nowMs);
    use(who.all, ms, nowMs);
  }

  /** Whether he, and those he is one of, have used more than a burst. */
  isGreedy({ all }: Share, nowMs: number): boolean {
    return usedMs(all, nowMs) > BURST_MS;
  }

  /** Whether `who` comes before `other`: he has used less. Of two of the same user the one who has used less himself. */
  isBefore(who: Share, other: Share, nowMs: number): boolean {
    if (who.all === other.all) return usedMs(who, nowMs) < usedMs(other, nowMs);
    return usedMs(who.all, nowMs) < usedMs(other.all, nowMs);
  }

  /** Somebody said something; only who does not flood himself counts, whatever others of the same user do. */
  heard(who: Share, nowMs: number): void {
    if (usedMs(who, nowMs) > BURST_MS) return;
    this.#heardMs = nowMs;
    this.#heardInWindow += 1;
    const sinceMs = nowMs - this.#windowMs;
    if (sinceMs < WINDOW_MS) return;
    this.#heardPerMs = this.#heardInWindow / sinceMs;
    this.#heardInWindow = 0;
    this.#windowMs = nowMs;
  }

  /** How long to pause after a turn before the next one of `who`: as long as it took, and up to nine times as long, or until
   *  others have asked many times, the more he has used. While nobody else has anything to say there is no reason to keep him
   *  waiting. */
  pauseMs(who: Share, tookMs: number, nowMs: number): number {
    if (nowMs - this.#heardMs > HEARD_MS) return tookMs;
    const factor = Math.min(Math.max(usedMs(who.all, nowMs) / BURST_MS, 1), MOST);
    const betweenMs = this.#heardPerMs < BUSY ? 0 : Math.min(BETWEEN_TURNS / this.#heardPerMs, MAX_BETWEEN_MS);
    return Math.max(tookMs * factor, (betweenMs * (factor - 1)) / (MOST - 1));
  }
}

export function newShare(all: Used = { usedMs: 0, atMs: 0 }, crowds: Crowds = newCrowds()): Share {
  return { usedMs: 0, atMs: 0, all, crowds };
}

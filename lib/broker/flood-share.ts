/** How much of the broker's time somebody has used lately, and what that leaves him. Pure: the time is handed in. */

/** Of one session, or of those of one user who connect. What was used is forgotten little by little. */
export type Share = { usedMs: number; atMs: number };

/** A burst of many hundreds of requests. */
const BURST_MS = 5;
/** What may be used for ever without ever counting, as a part of the time. */
const FREE = 0.05;
/** The longest pause, in times of what the turn took: a tenth of the time is left. */
const MOST = 9;
/** Nobody is told off for more than about a second after he has stopped. */
const MAX_USED_MS = 50;
/** How long after somebody has said something others are polite. */
const HEARD_MS = 20;

export class SharePolicy {
  #heardMs: number = Number.NEGATIVE_INFINITY;

  usedMs(who: Share, nowMs: number): number {
    return Math.max(0, who.usedMs - (nowMs - who.atMs) * FREE);
  }

  spend(who: Share, ms: number, nowMs: number): void {
    who.usedMs = Math.min(this.usedMs(who, nowMs) + ms, MAX_USED_MS);
    who.atMs = nowMs;
  }

  isGreedy(who: Share, nowMs: number): boolean {
    return this.usedMs(who, nowMs) > BURST_MS;
  }

  /** Somebody said something; only who does not flood counts. */
  heard(who: Share, nowMs: number): void {
    if (!this.isGreedy(who, nowMs)) this.#heardMs = nowMs;
  }

  /** How long to pause before the next turn of `who`, in times of what the last turn took. While nobody else has anything to
   *  say there is no reason to keep him waiting. */
  pauseFactor(who: Share, nowMs: number): number {
    if (nowMs - this.#heardMs > HEARD_MS) return 1;
    return Math.min(Math.max(this.usedMs(who, nowMs) / BURST_MS, 1), MOST);
  }
}

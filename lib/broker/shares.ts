/** Who shares the broker's time with whom: all connections of one user, or of one context of his. Pure: the time is handed in. */
import { newShare, type Share, type Used, usedMs } from "./flood-share.ts";
import { type Account, accountKey } from "./quota.ts";

/** Those who have used nothing of late are forgotten when there are more than so many: who of them is there still counts
 *  alone from then on. */
const MAX_IDLE = 256;

export class Shares {
  readonly #all: Map<string, Used> = new Map();

  /** A new one of those of that user or context. */
  of(who: Account, nowMs: number): Share {
    const key = accountKey(who);
    let all = this.#all.get(key);
    if (all === undefined) {
      if (this.#all.size >= MAX_IDLE) this.#forget(nowMs);
      all = { usedMs: 0, atMs: 0 };
      this.#all.set(key, all);
    }
    return newShare(all);
  }

  #forget(nowMs: number): void {
    for (const [key, used] of this.#all) if (usedMs(used, nowMs) === 0) this.#all.delete(key);
  }
}

/**
 * How many messages a second each user, or each context of one, may send: a token bucket for each. Who is above it is not
 * refused but read more slowly; the kernel's socket buffers then hold it up. Pure: the time is handed in.
 */
import { type Account, accountKey } from "./quota.ts";

/** What may come at once after a pause, as a part of what may come in a second. */
const BURST_MS = 100;
/** Buckets that are full again are forgotten when there are more than so many. */
const MAX_IDLE = 256;

type Bucket = { tokens: number; atMs: number };

export class RateLimiter {
  /** May change at any time. */
  perSecond: number;
  readonly #buckets: Map<string, Bucket> = new Map();

  constructor(perSecond: number) {
    this.perSecond = perSecond;
  }

  /** Whole messages that `who` may send now. */
  available(who: Account, nowMs: number): number {
    return Math.max(0, Math.floor(this.#bucket(who, nowMs).tokens));
  }

  /** @param count  may be more than is available: the debt is then waited off */
  spend(who: Account, count: number, nowMs: number): void {
    this.#bucket(who, nowMs).tokens -= count;
  }

  /** How long until `count` are available, 0 when they are. */
  waitMs(who: Account, count: number, nowMs: number): number {
    const missing = Math.min(count, this.#burst) - this.#bucket(who, nowMs).tokens;
    return missing <= 0 ? 0 : Math.ceil((missing * 1000) / this.perSecond);
  }

  get #burst(): number {
    return Math.max(1, (this.perSecond * BURST_MS) / 1000);
  }

  #bucket(who: Account, nowMs: number): Bucket {
    const key = accountKey(who);
    const bucket = this.#buckets.get(key) ?? this.#open(key, nowMs);
    const earned = (Math.max(0, nowMs - bucket.atMs) * this.perSecond) / 1000;
    bucket.tokens = Math.min(this.#burst, bucket.tokens + earned);
    bucket.atMs = nowMs;
    return bucket;
  }

  #open(key: string, nowMs: number): Bucket {
    if (this.#buckets.size >= MAX_IDLE) this.#forget(nowMs);
    const bucket = { tokens: this.#burst, atMs: nowMs };
    this.#buckets.set(key, bucket);
    return bucket;
  }

  #forget(nowMs: number): void {
    for (const [key, { tokens, atMs }] of this.#buckets)
      if (tokens + ((nowMs - atMs) * this.perSecond) / 1000 >= this.#burst) this.#buckets.delete(key);
  }
}

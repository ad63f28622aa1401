/** When to look for a broker again: at once after a connection that lasted, later and later when nothing comes of it.
 *  Pure: the clock is handed in. */

const FIRST_MS = 20;
const LONGEST_MS = 10_000;
/** A broker that ends sooner than that would have us start one after the other. */
const LASTING_MS = 10_000;

export class BackOff {
  /** Before the next try. */
  delayMs = 0;
  #connectedAtMs = Number.POSITIVE_INFINITY;

  /** How long to wait before the next try. */
  next(): number {
    const { delayMs } = this;
    this.delayMs = Math.min(Math.max(2 * delayMs, FIRST_MS), LONGEST_MS);
    return delayMs;
  }

  connected(nowMs: number): void {
    this.#connectedAtMs = nowMs;
  }

  ended(nowMs: number): void {
    if (nowMs - this.#connectedAtMs >= LASTING_MS) this.delayMs = 0;
    this.#connectedAtMs = Number.POSITIVE_INFINITY;
  }
}

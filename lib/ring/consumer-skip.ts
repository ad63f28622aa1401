/**
 * Throwing messages away that were not read, in loops of their own that copy nothing: a ring holds more of them than could
 * be received one by one in the time of a call.
 */
import { ConsumerCore, IN_MESSAGE, OPEN } from "./consumer-core.ts";
import { DATA_OFFSET, FIRST, LAST, RECORD_HEADER_BYTES } from "./layout.ts";

const WHOLE = FIRST | LAST;
const NOT_WHOLE = 1; // no position: those are multiples of 8
/** In one call of skipOld(): some hundred microseconds. The next call goes on. */
const MOST_SKIPS = 1 << 16;

export class ConsumerSkip extends ConsumerCore {
  #isBehind = false;

  /** Throws the oldest messages away if more than `most` bytes of the ring wait, until `keep` are left, but no more than MOST_SKIPS
   *  in one call. Stops at a record that next() found already and at a message of several.
   *  @returns how many */
  skipOld(most: number, keep: number): number {
    if ((this.state & (OPEN | IN_MESSAGE)) !== 0) return 0;
    this.readTail();
    const used = (this.tail - this.head) | 0;
    this.#isBehind = used > (this.#isBehind ? keep : most);
    let count = 0;
    while (this.#isBehind && count < MOST_SKIPS) {
      count += this.#skipWhole((this.tail - keep) | 0, MOST_SKIPS - count);
      this.#isBehind = ((this.tail - this.head) | 0) > keep;
      if (!this.#isBehind || count >= MOST_SKIPS) break;
      if (this.next() < 0 || this.flags !== WHOLE) break; // past a pad record
      this.release();
      count += 1;
    }
    this.countSkipped(count);
    return count;
  }

  /** Throws away whole messages as long as another whole one comes after, at most `most` of them. @returns how many */
  skipToLast(most: number): number {
    if ((this.state & (OPEN | IN_MESSAGE)) !== 0) return 0;
    if (this.head === this.tail && !this.readTail()) return 0;
    let next = this.#endOfWhole(this.head);
    let count = 0;
    while (count < most && next !== NOT_WHOLE && next !== this.tail) {
      const after = this.#endOfWhole(next);
      if (after === NOT_WHOLE) break;
      this.head = next;
      next = after;
      count += 1;
    }
    this.#publishWhenDue();
    this.countSkipped(count);
    return count;
  }

  /** Whole messages, while the head is before `until`. */
  #skipWhole(until: number, most: number): number {
    let count = 0;
    let head = this.head;
    for (; count < most && ((until - head) | 0) > 0; count++) {
      const next = this.#endOfWhole(head);
      if (next === NOT_WHOLE) break;
      head = next;
    }
    this.head = head;
    this.#publishWhenDue();
    return count;
  }

  /** With the checks of next(). @returns where the record ends; NOT_WHOLE where next() has to look */
  #endOfWhole(head: number): number {
    const offset = head & this.mask;
    const word = (DATA_OFFSET + offset) >> 2;
    const length = this.words[word] as number; // once: it may change under us
    const kind = this.words[word + 1] as number;
    const room = Math.min(this.capacity - offset, (this.tail - head) | 0) - RECORD_HEADER_BYTES;
    if (length < 0 || length > this.longest || length > room || kind >>> 16 !== WHOLE) return NOT_WHOLE;
    return (head + ((length + 15) & ~7)) | 0;
  }

  #publishWhenDue(): void {
    if (((this.head - this.published) | 0) >= this.publishEvery) this.publish();
  }
}

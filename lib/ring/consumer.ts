/** Records out of a ring: copied, in place, or many at a time. */
import { lengthOf } from "./bytes.ts";
import { type ConsumerOptions, EMPTY, IN_MESSAGE, OPEN } from "./consumer-core.ts";
import { ConsumerSkip } from "./consumer-skip.ts";
import { copyOut, copyWords, LastBuffer, LOOP_BYTES } from "./copy.ts";
import { type FastPath, PUBLISH } from "./fast-path.ts";
import { DATA_OFFSET, FIRST, LAST, RECORD_HEADER_BYTES } from "./layout.ts";

export { BROKEN, type ConsumerOptions, EMPTY, FINISHED } from "./consumer-core.ts";

/** What receive() answers when next() has to look: a fragment, a pad record, a long message, a violation. */
export const UNUSUAL = -4;

export class RingConsumer extends ConsumerSkip {
  readonly #last: LastBuffer = new LastBuffer();
  #packed: Int32Array | undefined;
  #packedLength = -1;
  readonly #lastOffset: number; // of a record without payload

  constructor(options: ConsumerOptions) {
    super(options);
    this.#lastOffset = options.capacity - RECORD_HEADER_BYTES;
  }

  /** Copies the payload of the record out and releases it. @param into  with room for `length` bytes */
  take(into: Uint8Array): void {
    copyOut(this.memory, this.offset, this.length, into);
    this.release();
    if (this.#last.isAgain(into)) this.#remember(into);
  }

  /**
   * next() and take() of one whole short message in one function, the common case: a call costs as much as the copy.
   * @param into  where the message goes, if it has room  @param looks  how often, when nothing is there
   * @returns bytes copied; EMPTY when nothing is published, UNUSUAL when next() has to look; nothing was taken then
   */
  receive(into: Uint8Array, looks = 1): number {
    const last = this.#last;
    const isLast = into === last.bytes && into.length === last.length;
    const room = isLast ? last.length : lengthOf(into);
    if (isLast && this.fast !== undefined) {
      const length = this.fast.receive(room, looks);
      return length < 0 || length >= PUBLISH ? this.#finishReceive(length) : length;
    }
    const most = Math.min(room, this.longest);
    let length = this.#receiveOnce(into, most, isLast);
    for (let look = 1; look < looks && length === EMPTY; look = (look + 1) | 0)
      length = this.#receiveOnce(into, most, isLast);
    return length;
  }

  #receiveOnce(into: Uint8Array, room: number, isLast: boolean): number {
    const head = this.head;
    if (head === this.tail && !this.readTail()) return this.#nothingPublished();
    const words = this.words;
    const offset = head & this.mask;
    const word = (DATA_OFFSET + offset) >> 2;
    const length = words[word] as number; // once, as in #readRecord()
    const kind = words[word + 1] as number;
    const next = (head + ((length + 15) & ~7)) | 0;
    if ((length & ~(LOOP_BYTES - 4)) !== 0 || length > room || kind >>> 16 !== (FIRST | LAST)) return UNUSUAL;
    if (((this.tail - next) | 0) < 0 || ((offset + length) | 0) > this.#lastOffset || this.state !== 0) return UNUSUAL;
    if (isLast) copyWords(words, (word + 2) | 0, this.#last.words, 0, length >> 2);
    else this.#copyOut(offset, length, into);
    this.type = kind & 0xffff;
    this.head = next;
    if (((next - this.published) | 0) >= this.publishEvery) this.publish();
    return length;
  }

  /** Takes whole messages that are published already, at most `max`, with the same checks as next(), positions kept in
   *  locals. Stops before everything else: the end, a fragment, a pad record, what is wrong or too long for `into`, and a
   *  record that `visit` began to read.  @returns how many; next() says why there are no more */
  takeMany(into: Uint8Array, max: number, visit: (length: number, type: number) => void): number {
    const longest = Math.min(this.longest, lengthOf(into));
    if ((this.state & (OPEN | IN_MESSAGE)) !== 0) return 0;
    if (this.head === this.tail && !this.readTail()) return 0;
    const { capacity } = this;
    const words = this.words;
    const tail = this.tail;
    let count = 0;
    while (count < max && this.head !== tail) {
      const head = this.head;
      const offset = head & this.mask;
      const word = (DATA_OFFSET + offset) >> 2;
      const length = words[word] as number; // once, as in #readRecord()
      const kind = words[word + 1] as number;
      const room = Math.min(capacity - offset, (tail - head) | 0) - RECORD_HEADER_BYTES;
      if (length < 0 || length > longest || length > room || kind >>> 16 !== (FIRST | LAST)) break;
      copyOut(this.memory, DATA_OFFSET + offset + RECORD_HEADER_BYTES, length, into);
      this.head = (head + ((length + 15) & ~7)) | 0; // before the visit, which may throw
      count++;
      visit(length, kind & 0xffff);
      if ((this.state & (OPEN | IN_MESSAGE)) !== 0) break; // the visitor reads a record: it goes on from there
    }
    if (words.length === 0) return count; // closed by the visitor
    if (((this.head - this.published) | 0) >= this.publishEvery) this.publish();
    return count;
  }

  /** Copies whole messages of exactly `messageBytes` (a multiple of 4) that are published already one after another to
   *  `into`, at most `max`; else as takeMany(). */
  takePacked(into: Int32Array, messageBytes: number, max: number): number {
    if ((this.state & (OPEN | IN_MESSAGE)) !== 0) return 0;
    const isUsual = this.state === 0 && max * messageBytes <= into.byteLength;
    const fast = isUsual ? this.#lendPacked(into) : undefined;
    if (fast !== undefined) return this.#takePackedFast(fast, messageBytes, max);
    if (this.head === this.tail && !this.readTail()) return 0;
    const words = this.words;
    const recordBytes = (messageBytes + 15) & ~7;
    const offset = this.head & this.mask;
    const here = Math.min((this.tail - this.head) | 0, this.capacity - offset);
    const most = Math.min(max, Math.trunc(here / recordBytes)) | 0;
    const payloadWords = messageBytes >> 2;
    let word = (DATA_OFFSET + offset) >> 2;
    let at = 0;
    let count = 0;
    for (; count < most; count = (count + 1) | 0) {
      const length = words[word] as number; // once, as in #readRecord()
      const kind = words[(word + 1) | 0] as number;
      if (length !== messageBytes || kind >>> 16 !== (FIRST | LAST)) break;
      copyWords(words, (word + 2) | 0, into, at, payloadWords);
      word = (word + (recordBytes >> 2)) | 0;
      at = (at + payloadWords) | 0;
    }
    this.head = (this.head + count * recordBytes) | 0;
    if (((this.head - this.published) | 0) >= this.publishEvery) this.publish();
    return count;
  }

  /** A copy of what is left of the record, or of its first `max` bytes; nothing is released. */
  copy(max: number = this.length): Uint8Array<ArrayBuffer> {
    return this.memory.bytes.slice(this.offset, this.offset + Math.min(max, this.length)) as Uint8Array<ArrayBuffer>;
  }

  /** The payload in place: only for a peer that is trusted, or for bytes that nobody parses. */
  view(): Uint8Array {
    return this.memory.bytes.subarray(this.offset, this.offset + this.length);
  }

  /** Apart from receive(), which is as small as it can be. */
  #nothingPublished(): number {
    this.publish();
    return this.state === 0 && this.violation === undefined ? EMPTY : UNUSUAL;
  }

  /** Apart from receive(), for the same reason. */
  #finishReceive(length: number): number {
    if (length === EMPTY) return this.#nothingPublished();
    if (length < 0) return UNUSUAL;
    this.publish();
    return length - PUBLISH;
  }

  #takePackedFast(fast: FastPath, messageBytes: number, max: number): number {
    const count = fast.takePacked(messageBytes, max);
    if (count === 0 && this.head === this.tail) this.readTail(); // which takes note of one that cannot be true
    if (((this.head - this.published) | 0) >= this.publishEvery) this.publish();
    return count;
  }

  #copyOut(offset: number, length: number, into: Uint8Array): void {
    copyOut(this.memory, DATA_OFFSET + offset + RECORD_HEADER_BYTES, length, into);
    if (this.#last.isAgain(into)) this.#remember(into);
  }

  #remember(into: Uint8Array): void {
    const fast = this.useFastPath();
    if (fast === undefined) return this.#last.view(into);
    this.#last.lend(into, fast);
  }

  #lendPacked(into: Int32Array): FastPath | undefined {
    if (into === this.#packed && into.length === this.#packedLength) return this.fast;
    const fast = this.useFastPath();
    if (!fast?.lend("packed", new Uint8Array(into.buffer, into.byteOffset, into.byteLength))) return undefined;
    this.#packed = into;
    this.#packedLength = into.length;
    return fast;
  }

  override retire(): void {
    super.retire();
    this.#last.forget();
  }
}

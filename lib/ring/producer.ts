/**
 * Records into a ring. They are put behind the tail, where nobody looks, and become visible together with one store of
 * the tail; a crash before it leaves nothing.
 */
import { checkCount } from "../util/count.ts";
import { lengthOf } from "./bytes.ts";
import { copyWords, LastBuffer, LOOP_BYTES } from "./copy.ts";
import { type FastPath, REFUSED, SENT, WAKE } from "./fast-path.ts";
import { DATA_OFFSET, DATA_WAKE, FIRST, LAST, PAD, RECORD_HEADER_BYTES, TAIL } from "./layout.ts";
import { peerLoad } from "./peer-load.ts";
import { ProducerCore } from "./producer-core.ts";

export type { ProducerOptions } from "./producer-core.ts";

const WHOLE = FIRST | LAST;
/** A span shorter than this at the end of the ring is not worth a record: pad and start over. */
const SHORT_SPAN_BYTES = 1024;
const MAX_SPAN_BYTES = 1 << 18;

export class RingProducer extends ProducerCore {
  readonly #last: LastBuffer = new LastBuffer();
  #packed: Int32Array | undefined;
  #packedLength = -1;
  #reservedAt = -1; //   byte offset of a reserved payload, or -1
  #reservedLength = 0;
  #reservedType = 0;

  /** Puts one record behind the tail, invisible until publish(). @returns false when there is no room, or after a violation
   *  @param bytes  at most maxPayload  @param type  0 … 65535  @param flags  FIRST, LAST */
  put(bytes: Uint8Array, type: number, flags: number = WHOLE): boolean {
    const length = lengthOf(bytes);
    const offset = this.#makeRoom(length);
    if (offset < 0) return false;
    this.#writeHeader(offset, length, type, flags);
    this.#copyIn(bytes, length, offset + RECORD_HEADER_BYTES);
    this.#advance(length, flags);
    return true;
  }

  /** put() and publish() of one whole message: the common case in one function, because a call costs as much as a store.
   *  @returns false when there is no room, when it is longer than maxPayload, after a violation, while `blocked`, or when this
   *  is how the consumer was found to have left */
  send(bytes: Uint8Array, type: number): boolean {
    const kind = type & 0xffff; // first: it may run code of the caller's, who may do anything with the buffer
    const last = this.#last;
    const isLast = bytes === last.bytes && bytes.length === last.length;
    const length = isLast ? last.length : lengthOf(bytes);
    if (isLast && this.fast !== undefined) {
      const outcome = this.fast.send(length, kind);
      if (outcome === REFUSED) return this.#sendAfterMakingRoom(bytes, kind);
      this.#reservedAt = -1;
      if (outcome === WAKE) this.wakeConsumer(peerLoad(this.peerWords, DATA_WAKE));
      return outcome === SENT || !this.blocked;
    }
    const tail = this.tail;
    const offset = tail & this.mask;
    const next = (tail + ((length + 15) & ~7)) | 0;
    const straddles = ((offset + length + RECORD_HEADER_BYTES) | 0) > this.capacity;
    if (straddles || ((this.limit - next) | 0) < 0 || length > this.maxPayload || this.blocked) {
      return this.#sendAfterMakingRoom(bytes, kind);
    }
    const words = this.words;
    const word = (DATA_OFFSET + offset) >> 2;
    words[word] = length;
    words[word + 1] = kind | (WHOLE << 16);
    if (isLast) copyWords(last.words, 0, words, (word + 2) | 0, length >> 2);
    else this.#copyIn(bytes, length, DATA_OFFSET + offset + RECORD_HEADER_BYTES);
    this.#reservedAt = -1;
    this.tail = this.published = next;
    Atomics.store(words, TAIL, next);
    const wake = peerLoad(this.peerWords, DATA_WAKE);
    this.countMessages(length, 1);
    if (wake === 0) this.rung = 0;
    else this.wakeConsumer(wake);
    return !this.blocked;
  }

  /** Puts whole messages `from` … `to - 1` of a list as long as they fit before the end of the ring and in the room known
   *  of, positions kept in locals. @param list  lengthOf() has looked at each of them
   *  @returns the index of the first that was not put: put() and publish() go on from there */
  putMany(list: readonly Uint8Array[], from: number, to: number, type: number): number {
    const { capacity, maxPayload } = this;
    const words = this.words;
    const ring = this.bytes;
    const mask = this.mask;
    const kind = (type & 0xffff) | (WHOLE << 16);
    const limit = this.limit;
    let tail = this.tail;
    let total = 0;
    let index = from;
    for (; index < to; index++) {
      const bytes = list[index] as Uint8Array;
      const length = bytes.length;
      const offset = tail & mask;
      const next = (tail + ((length + 15) & ~7)) | 0;
      if (length > maxPayload || offset + length + RECORD_HEADER_BYTES > capacity || ((limit - next) | 0) < 0) break;
      const word = (DATA_OFFSET + offset) >> 2;
      words[word] = length;
      words[word + 1] = kind;
      ring.set(bytes, DATA_OFFSET + offset + RECORD_HEADER_BYTES);
      tail = next;
      total += length;
    }
    this.tail = tail;
    this.#reservedAt = -1;
    this.countMessages(total, index - from);
    return index;
  }

  /** Puts whole messages `from` … `to - 1` of `messageBytes` each (a multiple of 4) that lie one after another in
   *  `source`; else as putMany(). */
  putPacked(source: Int32Array, messageBytes: number, from: number, to: number, type: number): number {
    const kind = type & 0xffff; // first, as in send()
    const fast = to * messageBytes <= source.byteLength ? this.#lendPacked(source) : undefined;
    if (fast !== undefined) {
      this.#reservedAt = -1;
      return fast.putPacked(messageBytes, from, to, kind);
    }
    const recordBytes = (messageBytes + 15) & ~7;
    const offset = this.tail & this.mask;
    const room = Math.min(this.free(), this.capacity - offset);
    const count = Math.max(0, Math.min(to - from, Math.trunc(room / recordBytes))) | 0;
    const words = this.words;
    const header = kind | (WHOLE << 16);
    const payloadWords = messageBytes >> 2;
    let word = (DATA_OFFSET + offset) >> 2;
    let at = (from * payloadWords) | 0;
    for (let left = count; left > 0; left = (left - 1) | 0) {
      words[word] = messageBytes;
      words[(word + 1) | 0] = header;
      copyWords(source, at, words, (word + 2) | 0, payloadWords);
      word = (word + (recordBytes >> 2)) | 0;
      at = (at + payloadWords) | 0;
    }
    this.tail = (this.tail + count * recordBytes) | 0;
    this.#reservedAt = -1;
    this.countMessages(count * messageBytes, count);
    return from + count;
  }

  /** Room for a payload of exactly `length` bytes, to be filled in place. @returns its byte offset in our file, -1 without room */
  reserve(length: number, type: number): number {
    checkCount(length, this.maxPayload, "bytes to reserve");
    const offset = this.#makeRoom(length);
    if (offset < 0) return -1;
    this.#reservedAt = offset;
    this.#reservedLength = length;
    this.#reservedType = type;
    return offset + RECORD_HEADER_BYTES;
  }

  /** Puts what was reserved. @param length  how much of it was filled */
  commit(length: number = this.#reservedLength): void {
    const offset = this.#reservedAt;
    if (offset < 0) throw new Error("Cannot commit: nothing is reserved");
    checkCount(length, this.#reservedLength, "bytes to commit");
    this.#reservedAt = -1;
    this.#writeHeader(offset, length, this.#reservedType, WHOLE);
    this.#advance(length, WHOLE);
  }

  /** Reserves as much as is worth it, for bytes without boundaries. @returns the offset, -1 when full; spanLength tells how much */
  reserveSpan(): number {
    let free = this.free();
    if (free < this.capacity >> 2) {
      this.readHead();
      free = this.free();
    }
    const contiguous = this.capacity - (this.tail & this.mask);
    const here = Math.min(free, contiguous);
    const room = here < SHORT_SPAN_BYTES ? Math.max(here, free - contiguous) : here;
    const length = (Math.min(room, MAX_SPAN_BYTES, this.maxPayload) - RECORD_HEADER_BYTES) & ~7;
    return length <= 0 ? -1 : this.reserve(length, 0);
  }

  get spanLength(): number {
    return this.#reservedLength;
  }

  #sendAfterMakingRoom(bytes: Uint8Array, type: number): boolean {
    const length = bytes.length;
    if (this.blocked || length > this.maxPayload || this.#makeRoom(length) < 0) return false;
    const { fast } = this;
    if (fast === undefined || bytes !== this.#last.bytes || length !== this.#last.length) {
      this.put(bytes, type);
      this.publish();
      return !this.blocked;
    }
    const outcome = fast.send(length, type);
    if (outcome === WAKE) this.wakeConsumer(peerLoad(this.peerWords, DATA_WAKE));
    return outcome !== REFUSED && !this.blocked;
  }

  /** @returns byte offset for the record, pad record written if need be; -1 without room */
  #makeRoom(length: number): number {
    if (length > this.maxPayload) {
      throw new RangeError(`Cannot put "${length}" bytes into one record: it holds at most ${this.maxPayload}`);
    }
    if (this.#reservedAt >= 0) this.#reservedAt = -1; // given up: it was never visible
    const record = (length + 15) & ~7;
    const offset = this.tail & this.mask;
    const contiguous = (this.capacity - offset) | 0;
    const need = record > contiguous ? (record + contiguous) | 0 : record;
    if (need > this.free()) {
      this.readHead();
      if (need > this.free()) return -1;
    }
    if (need === record) return DATA_OFFSET + offset;
    this.#writeHeader(DATA_OFFSET + offset, contiguous - RECORD_HEADER_BYTES, 0, PAD);
    this.tail = (this.tail + contiguous) | 0;
    return DATA_OFFSET;
  }

  #writeHeader(offset: number, length: number, type: number, flags: number): void {
    const word = offset >> 2;
    this.words[word] = length;
    this.words[word + 1] = (type & 0xffff) | (flags << 16);
  }

  #copyIn(bytes: Uint8Array, length: number, offset: number): void {
    this.bytes.set(bytes, offset);
    if (!this.#last.isAgain(bytes)) return;
    const fast = this.useFastPath();
    if (fast === undefined) {
      if (length < LOOP_BYTES && (length & 3) === 0) this.#last.view(bytes);
      return;
    }
    this.#last.lend(bytes, fast);
  }

  #lendPacked(source: Int32Array): FastPath | undefined {
    if (source === this.#packed && source.length === this.#packedLength) return this.fast;
    const fast = this.useFastPath();
    if (!fast?.lend("packed", new Uint8Array(source.buffer, source.byteOffset, source.byteLength))) return undefined;
    this.#packed = source;
    this.#packedLength = source.length;
    return fast;
  }

  override retire(): void {
    super.retire();
    this.#last.forget();
  }

  #advance(length: number, flags: number): void {
    this.tail = (this.tail + ((length + 15) & ~7)) | 0;
    this.countMessages(length, (flags & LAST) !== 0 ? 1 : 0);
  }
}

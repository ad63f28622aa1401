/**
 * The writing end of a ring. Records are put behind the tail, where nobody looks, and become visible together with one
 * sequentially consistent store of the tail; a crash before it leaves nothing.
 *
 * The race it is written against: we publish while the consumer falls asleep. We store the tail and then load its wake
 * word; it stores the wake word and then loads the tail. In every order one of the two sees the other.
 */
import { Copier } from "./copy.ts";
import { Counter } from "./counter.ts";
import type { Doorbell } from "./doorbell.ts";
import {
  COLD_BYTES,
  COLD_DATA_WAKEUPS,
  COLD_MESSAGES,
  DATA_OFFSET,
  DATA_WAKE,
  FIRST,
  HEAD,
  LAST,
  maxPayloadBytes,
  PAD,
  RECORD_HEADER_BYTES,
  type RingMemory,
  SPACE_WAKE,
  STATE,
  STATE_FINISHED,
  TAIL,
  WAKE_ARMED,
  WAKE_GONE,
} from "./layout.ts";
import { peerLoad } from "./peer-load.ts";
import type { Violation } from "./violation.ts";

const WHOLE = FIRST | LAST;
/** A span shorter than this at the end of the ring is not worth a record: pad and start over. */
const SHORT_SPAN_BYTES = 1024;
const MAX_SPAN_BYTES = 1 << 18;

export type ProducerOptions = {
  /** Our own ring, writable. */
  readonly own: RingMemory;
  /** The other side's, for its control page. */
  readonly peer: RingMemory;
  /** Of our own ring. */
  readonly capacity: number;
  readonly doorbell: Doorbell;
};

export class RingProducer {
  readonly capacity: number;
  readonly maxPayload: number;
  readonly #words: Int32Array;
  readonly #bytes: Uint8Array;
  readonly #copier: Copier;
  readonly #peerWords: Int32Array;
  readonly #mask: number;
  readonly #doorbell: Doorbell;
  readonly #byteCount: Counter;
  readonly #messageCount: Counter;
  readonly #wakeupCount: Counter;
  #tail: number; //      end of what was put
  #published: number; // end of what the consumer may see
  #head: number; //      the consumer's position when last read
  #rung = 0; //          wake word that the doorbell was last rung for
  #reservedAt = -1; //   byte offset of a reserved payload, or -1
  #reservedLength = 0;
  #reservedType = 0;
  #armed = false;
  #gone = false;
  #finished = false;
  #violation: Violation | undefined;

  constructor({ own, peer, capacity, doorbell }: ProducerOptions) {
    this.capacity = capacity;
    this.maxPayload = maxPayloadBytes(capacity);
    this.#words = own.words;
    this.#bytes = own.bytes;
    this.#copier = new Copier(own.words, own.bytes);
    this.#peerWords = peer.words;
    this.#mask = capacity - 1;
    this.#doorbell = doorbell;
    this.#byteCount = new Counter(own.words, COLD_BYTES);
    this.#messageCount = new Counter(own.words, COLD_MESSAGES);
    this.#wakeupCount = new Counter(own.words, COLD_DATA_WAKEUPS);
    this.#tail = this.#published = this.#head = own.words[TAIL] ?? 0;
  }

  /** Whether the consumer has left or broken the rules: nothing can be sent any more. */
  get stuck(): boolean {
    return this.#gone || this.#violation !== undefined;
  }

  get violation(): Violation | undefined {
    return this.#violation;
  }

  /** The consumer said that it will never read again. Seen at the next publish(). */
  get peerGone(): boolean {
    return this.#gone;
  }

  get finished(): boolean {
    return this.#finished;
  }

  /** The consumer's position, as last read: whether it moves tells if it lives. */
  refreshHead(): number {
    this.#readHead();
    return this.#head;
  }

  /** Puts one record behind the tail, invisible until publish(). @returns false when there is no room, or after a violation
   *  @param bytes  at most maxPayload  @param type  0 … 65535  @param flags  FIRST, LAST */
  put(bytes: Uint8Array, type: number, flags: number = WHOLE): boolean {
    const length = bytes.length | 0;
    const offset = this.#makeRoom(length);
    if (offset < 0) return false;
    this.#writeHeader(offset, length, type, flags);
    this.#copier.copyIn(offset + RECORD_HEADER_BYTES, bytes);
    this.#advance(length, flags);
    return true;
  }

  /** put() and publish() of one whole message: the common case in one function, because a call costs as much as a store. */
  send(bytes: Uint8Array, type: number): boolean {
    const length = bytes.length | 0;
    const tail = this.#tail;
    const offset = tail & this.#mask;
    const next = (tail + ((length + 15) & ~7)) | 0;
    const fits = offset + length + RECORD_HEADER_BYTES <= this.capacity && ((next - this.#head) | 0) <= this.capacity;
    if (!fits || length > this.maxPayload) return this.#sendAfterMakingRoom(bytes, type);
    const words = this.#words;
    const word = (DATA_OFFSET + offset) >> 2;
    words[word] = length;
    words[word + 1] = (type & 0xffff) | (WHOLE << 16);
    this.#copier.copyIn(DATA_OFFSET + offset + RECORD_HEADER_BYTES, bytes);
    this.#reservedAt = -1;
    this.#byteCount.add(length);
    this.#messageCount.add(1);
    this.#tail = this.#published = next;
    Atomics.store(words, TAIL, next);
    const wake = peerLoad(this.#peerWords, DATA_WAKE);
    if (wake !== 0) this.#wakeConsumer(wake);
    else this.#rung = 0;
    this.#touchAhead(next);
    return true;
  }

  /** Stores to where the next record will lie, if that is free: the processor fetches the lines while the consumer reads,
   *  and not in the way of the next store of the tail. */
  #touchAhead(next: number): void {
    const offset = next & this.#mask;
    if (((next + 128 - this.#head) | 0) > this.capacity || offset + 128 > this.capacity) return;
    const word = (DATA_OFFSET + offset) >> 2;
    this.#words[word] = 0;
    this.#words[word + 17] = 0;
  }

  /** Puts whole messages `from` … `to - 1` of a list as long as they fit before the end of the ring and in the room known
   *  of, positions kept in locals. @returns the index of the first that was not put: put() and publish() go on from there */
  putMany(list: readonly Uint8Array[], from: number, to: number, type: number): number {
    const { capacity, maxPayload } = this;
    const words = this.#words;
    const ring = this.#bytes;
    const mask = this.#mask;
    const kind = (type & 0xffff) | (WHOLE << 16);
    const limit = (this.#head + capacity) | 0;
    let tail = this.#tail;
    let total = 0;
    let index = from;
    for (; index < to; index++) {
      const bytes = list[index] as Uint8Array;
      const length = bytes.length | 0;
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
    this.#tail = tail;
    this.#reservedAt = -1;
    this.#byteCount.add(total);
    this.#messageCount.add(index - from);
    return index;
  }

  /** Puts whole messages `from` … `to - 1` of `messageBytes` each (a multiple of 4) that lie one after another in
   *  `source`; else as putMany(). */
  putPacked(source: Int32Array, messageBytes: number, from: number, to: number, type: number): number {
    const { capacity } = this;
    const words = this.#words;
    const mask = this.#mask;
    const kind = (type & 0xffff) | (WHOLE << 16);
    const limit = (this.#head + capacity) | 0;
    const recordBytes = (messageBytes + 15) & ~7;
    const wordsEach = messageBytes >> 2;
    let tail = this.#tail;
    let index = from;
    for (let at = from * wordsEach; index < to; index++, at += wordsEach) {
      const offset = tail & mask;
      const next = (tail + recordBytes) | 0;
      if (offset + messageBytes + RECORD_HEADER_BYTES > capacity || ((limit - next) | 0) < 0) break;
      const word = (DATA_OFFSET + offset) >> 2;
      words[word] = messageBytes;
      words[word + 1] = kind;
      for (let each = 0; each < wordsEach; each++) words[word + 2 + each] = source[at + each] as number;
      tail = next;
    }
    this.#tail = tail;
    this.#reservedAt = -1;
    this.#byteCount.add((index - from) * messageBytes);
    this.#messageCount.add(index - from);
    return index;
  }

  /** Makes everything that was put visible and wakes the consumer if it asked for that. */
  publish(): void {
    const tail = this.#tail;
    if (tail === this.#published) return;
    this.#published = tail;
    Atomics.store(this.#words, TAIL, tail);
    const wake = peerLoad(this.#peerWords, DATA_WAKE);
    if (wake !== 0) this.#wakeConsumer(wake);
    else this.#rung = 0;
  }

  /** Room for a payload of exactly `length` bytes, to be filled in place. @returns its byte offset in our file, -1 without room */
  reserve(length: number, type: number): number {
    const offset = this.#makeRoom(length | 0);
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
    if (length > this.#reservedLength) throw new RangeError(`Cannot commit "${length}" bytes: fewer were reserved`);
    this.#reservedAt = -1;
    this.#writeHeader(offset, length, this.#reservedType, WHOLE);
    this.#advance(length, WHOLE);
  }

  /** Reserves as much as is worth it, for bytes without boundaries. @returns the offset, -1 when full; spanLength tells how much */
  reserveSpan(): number {
    let free = this.#free();
    if (free < this.capacity >> 2) {
      this.#readHead();
      free = this.#free();
    }
    const contiguous = this.capacity - (this.#tail & this.#mask);
    const here = Math.min(free, contiguous);
    const room = here < SHORT_SPAN_BYTES ? Math.max(here, free - contiguous) : here;
    const length = (Math.min(room, MAX_SPAN_BYTES, this.maxPayload) - RECORD_HEADER_BYTES) & ~7;
    return length <= 0 ? -1 : this.reserve(length, 0);
  }

  get spanLength(): number {
    return this.#reservedLength;
  }

  /** Says that a payload of `length` bytes is waited for. @returns true: sleep until the doorbell; false: there is room, or
   *  the channel broke */
  armSpace(length: number): boolean {
    // Like a socket's: not for every few bytes, or each message would cost a wake-up while the ring is full.
    const wanted = Math.max(this.#need(length | 0), this.capacity >> 2);
    const threshold = (this.#tail + wanted - this.capacity) | 0;
    do {
      this.#readHead();
      this.#armed = true;
      Atomics.store(this.#words, SPACE_WAKE, (threshold & ~7) | WAKE_ARMED);
      this.#readHead();
      if (this.#violation !== undefined || this.#fits(length | 0) || this.#sawGone()) {
        this.disarmSpace();
        return false;
      }
    } while (!this.#armed); // the head moved, not far enough
    return true;
  }

  /** Bytes of the ring that the consumer has not done with yet. */
  get unreadBytes(): number {
    this.#readHead();
    return this.capacity - this.#free();
  }

  /** Asks for the doorbell when the consumer has done with everything. @returns true: sleep until it rings; false: it has,
   *  it never will, or the channel broke */
  armDrained(): boolean {
    do {
      this.#readHead();
      this.#armed = true;
      Atomics.store(this.#words, SPACE_WAKE, (this.#tail & ~7) | WAKE_ARMED);
      this.#readHead();
      if (this.#violation !== undefined || this.#free() === this.capacity || this.#sawGone()) {
        this.disarmSpace();
        return false;
      }
    } while (!this.#armed); // the head moved, not far enough
    return true;
  }

  /** Done by itself as soon as there is more room than there was. */
  disarmSpace(): void {
    this.#armed = false;
    Atomics.store(this.#words, SPACE_WAKE, 0);
  }

  /** No record will follow. Wakes the consumer whatever it waits for. */
  finish(): void {
    if (this.#finished) return;
    this.#finished = true;
    this.publish();
    Atomics.store(this.#words, STATE, STATE_FINISHED);
    if (peerLoad(this.#peerWords, DATA_WAKE) !== 0) this.#doorbell.ring();
  }

  /** Whether a payload of `length` bytes has room now. */
  hasRoom(length: number): boolean {
    if (this.#fits(length | 0)) return true;
    this.#readHead();
    return this.#fits(length | 0);
  }

  #free(): number {
    return (this.capacity - ((this.#tail - this.#head) | 0)) | 0;
  }

  #fits(length: number): boolean {
    return this.#need(length) <= this.#free() && this.#violation === undefined;
  }

  /** Bytes of the ring that a payload takes now, with the pad record before it. */
  #need(length: number): number {
    const record = (length + 15) & ~7;
    const contiguous = (this.capacity - (this.#tail & this.#mask)) | 0;
    return record > contiguous ? (record + contiguous) | 0 : record;
  }

  #sendAfterMakingRoom(bytes: Uint8Array, type: number): boolean {
    if (!this.put(bytes, type)) return false;
    this.publish();
    return true;
  }

  /** @returns byte offset for the record, pad record written if need be; -1 without room */
  #makeRoom(length: number): number {
    if (length > this.maxPayload) {
      throw new RangeError(`Cannot put "${length}" bytes into one record: it holds at most ${this.maxPayload}`);
    }
    if (this.#reservedAt >= 0) this.#reservedAt = -1; // given up: it was never visible
    const record = (length + 15) & ~7;
    const offset = this.#tail & this.#mask;
    const contiguous = (this.capacity - offset) | 0;
    const need = record > contiguous ? (record + contiguous) | 0 : record;
    if (need > this.#free()) {
      this.#readHead();
      if (need > this.#free()) return -1;
    }
    if (need === record) return DATA_OFFSET + offset;
    this.#writeHeader(DATA_OFFSET + offset, contiguous - RECORD_HEADER_BYTES, 0, PAD);
    this.#tail = (this.#tail + contiguous) | 0;
    return DATA_OFFSET;
  }

  #writeHeader(offset: number, length: number, type: number, flags: number): void {
    const word = offset >> 2;
    this.#words[word] = length;
    this.#words[word + 1] = (type & 0xffff) | (flags << 16);
  }

  #advance(length: number, flags: number): void {
    this.#tail = (this.#tail + ((length + 15) & ~7)) | 0;
    this.#byteCount.add(length);
    if ((flags & LAST) !== 0) this.#messageCount.add(1);
  }

  /** Reads the consumer's position once and believes it only if it can be true. After a violation nothing fits any more. */
  #readHead(): void {
    const head = peerLoad(this.#peerWords, HEAD) | 0;
    const used = (this.#tail - head) | 0;
    const usedBefore = (this.#tail - this.#head) | 0;
    if (this.#violation !== undefined) return;
    if ((head & 7) === 0 && used >= 0 && used <= usedBefore && ((this.#published - head) | 0) >= 0) {
      this.#head = head;
      if (this.#armed && used !== usedBefore) this.disarmSpace();
      return;
    }
    this.#violation = { kind: "head", value: head, position: this.#tail };
    this.#head = (this.#tail - this.capacity) | 0;
  }

  #sawGone(): boolean {
    if ((peerLoad(this.#peerWords, DATA_WAKE) & WAKE_GONE) !== 0) this.#gone = true;
    return this.#gone;
  }

  /** Rings once for each wake word: the consumer writes 0 before it consumes past the position it waited for. */
  #wakeConsumer(wake: number): void {
    if ((wake & WAKE_GONE) !== 0) {
      this.#gone = true;
      return;
    }
    if (wake === this.#rung || ((this.#published - (wake & ~7)) | 0) < 0) return;
    this.#rung = wake;
    this.#wakeupCount.add(1);
    this.#doorbell.ring();
  }
}

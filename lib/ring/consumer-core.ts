/**
 * The reading end of a ring, record by record. Nothing the peer wrote is believed: every position and every record
 * header is read once into a local, checked, and only then used. A value that cannot be true is kept as `violation` and
 * ends the reading.
 *
 * The position goes back to the producer lazily, out of the way of an answer: every eighth of the ring, and when the
 * ring is found empty.
 */

import { ConsumerPlace } from "./consumer-place.ts";
import { Counter } from "./counter.ts";
import type { Doorbell } from "./doorbell.ts";
import type { OpenFastPath } from "./fast-path.ts";
import {
  COLD_SKIPPED,
  COLD_SPACE_WAKEUPS,
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
import { fence, peerLoad } from "./peer-load.ts";
import { IN_CAPACITY, IN_MAX_PAYLOAD, IN_PUBLISH_EVERY, IN_RUNG } from "./state.ts";
import type { Violation } from "./violation.ts";

/** What next() answers when there is no record. */
export const EMPTY = -1;
export const FINISHED = -2;
export const BROKEN = -3;
/** A record is under the head, checked; its message's earlier fragments were consumed; receive() is switched off; we asked
 *  to be woken; the peer broke the rules. */
export const OPEN = 1;
export const IN_MESSAGE = 2;
const WATCHED = 4;
const ARMED = 8;
const REFUSED = 16;

export type ConsumerOptions = {
  /** Our own ring, whose control page takes our position. */
  readonly own: RingMemory;
  /** The ring that is read. */
  readonly peer: RingMemory;
  /** Of the ring that is read. */
  readonly capacity: number;
  /** Longest message that is taken; one that is longer, in however many records, is refuseMessage()'s. */
  readonly maxMessageBytes?: number;
  readonly doorbell: Doorbell;
  readonly openFastPath?: OpenFastPath | undefined;
};

export class ConsumerCore extends ConsumerPlace {
  readonly capacity: number;
  readonly #ownWords: Int32Array;
  protected readonly words: Int32Array;
  protected readonly memory: RingMemory;
  protected readonly mask: number;
  protected readonly maxPayload: number;
  /** Longest record that is passed by or taken without a look of whoever knows maxMessageBytes. */
  protected readonly longest: number;
  protected readonly publishEvery: number;
  readonly #doorbell: Doorbell;
  readonly #wakeupCount: Counter;
  readonly #skippedCount: Counter;
  #violation: Violation | undefined;
  #recordBytes = 0;

  /** Of the record that next() found: byte offset in the peer's file, bytes left, and flags. */
  offset = 0;
  length = 0;
  flags = 0;

  constructor({ own, peer, capacity, maxMessageBytes, doorbell, openFastPath }: ConsumerOptions) {
    super(openFastPath);
    this.capacity = capacity;
    this.#ownWords = own.words;
    this.words = peer.words;
    this.memory = peer;
    this.mask = capacity - 1;
    this.maxPayload = maxPayloadBytes(capacity);
    this.longest = Math.min(this.maxPayload, maxMessageBytes ?? this.maxPayload);
    this.publishEvery = capacity >> 3;
    this.#doorbell = doorbell;
    this.place[IN_CAPACITY] = capacity;
    this.place[IN_MAX_PAYLOAD] = this.longest;
    this.place[IN_PUBLISH_EVERY] = this.publishEvery;
    this.#wakeupCount = new Counter(own.words, COLD_SPACE_WAKEUPS);
    this.#skippedCount = new Counter(own.words, COLD_SKIPPED);
    this.head = this.published = this.tail = own.words[HEAD] ?? 0;
  }

  get violation(): Violation | undefined {
    return this.#violation;
  }

  /** The last parts of a message have not been read, or have not come. */
  get isInMessage(): boolean {
    return (this.state & IN_MESSAGE) !== 0;
  }

  /** A number that changes whenever something is consumed. */
  get progress(): number {
    return this.head;
  }

  /** Finds the next record, which stays until release(). @returns bytes of it that are left, or EMPTY, FINISHED, BROKEN */
  next(): number {
    if ((this.state & OPEN) !== 0) return this.length;
    if (this.head === this.tail && !this.readTail()) return this.#whyEmpty();
    return this.#readRecord();
  }

  /** While true receive() answers UNUSUAL, so that its caller cannot pass by what else has to be done. */
  set watched(watched: boolean) {
    this.state = watched ? this.state | WATCHED : this.state & ~WATCHED;
  }

  /** Done with the record. */
  release(): void {
    const state = this.state & ~(OPEN | IN_MESSAGE);
    this.state = (this.flags & LAST) === 0 ? state | IN_MESSAGE : state;
    const head = (this.head + this.#recordBytes) | 0;
    this.head = head;
    if (((head - this.published) | 0) >= this.publishEvery) this.publish();
  }

  /** Bytes left of the record that next() found, if it is still the one at `position`; else -1. */
  leftAt(position: number): number {
    return (this.state & OPEN) !== 0 && position === this.head ? this.length : -1;
  }

  /** Done with the first `count` bytes of what is left of the record. */
  skip(count: number): void {
    this.offset += count;
    this.length -= count;
    if (this.length <= 0) this.release();
  }

  /** Notes messages that were thrown away unread. */
  countSkipped(messages: number): void {
    if (messages > 0) this.#skippedCount.add(messages);
  }

  /** Tells the producer how far we are, and wakes it if it waits for that. */
  publish(): void {
    const head = this.head;
    if (head === this.published) return;
    this.published = head;
    Atomics.store(this.#ownWords, HEAD, head);
    const wake = peerLoad(this.words, SPACE_WAKE);
    if (wake !== 0) this.#wakeProducer(wake);
    else this.place[IN_RUNG] = 0;
  }

  /** Says that data is waited for. @returns true: sleep until the doorbell; false: there is some, or the end */
  armData(): boolean {
    this.publish();
    const threshold = (this.head + RECORD_HEADER_BYTES) | 0;
    this.state |= ARMED;
    Atomics.store(this.#ownWords, DATA_WAKE, threshold | WAKE_ARMED);
    if (this.next() === EMPTY) return true;
    this.disarmData();
    return false;
  }

  /** Done by itself as soon as there is data, so that a wake word is never left behind and met again after 4 GiB. */
  disarmData(): void {
    this.state &= ~ARMED;
    Atomics.store(this.#ownWords, DATA_WAKE, 0);
  }

  /** Says that nothing will be read any more. */
  leave(): void {
    this.publish(); // or the producer takes for unread what was read
    this.state &= ~ARMED;
    Atomics.store(this.#ownWords, DATA_WAKE, WAKE_GONE);
  }

  /** Ends the reading because of the size of a message, or what its records add up to. */
  refuseMessage(bytes: number): void {
    this.#refuse("message-size", bytes);
  }

  /** Reads the tail once and believes it only if it can be true. @returns whether there is a record */
  protected readTail(): boolean {
    const tail = peerLoad(this.words, TAIL) | 0;
    fence(this.#ownWords);
    if (tail === this.tail || this.#violation !== undefined) return false;
    const used = (tail - this.head) | 0;
    const moved = (tail - this.tail) | 0;
    if ((tail & 7) !== 0 || moved < 0 || used < 0 || used > this.capacity) {
      this.#refuse("tail", tail);
      return false;
    }
    this.tail = tail;
    if ((this.state & ARMED) !== 0) this.disarmData();
    return true;
  }

  /** Leaves a record under the head that is none, in memory that is gone: receive() and takeMany() look no further than that. */
  override retire(): void {
    super.retire();
    this.published = this.head; // nobody can be told any more
    this.tail = (this.head + RECORD_HEADER_BYTES) | 0;
  }

  #whyEmpty(): number {
    if (this.#violation !== undefined) return BROKEN;
    this.publish();
    if (peerLoad(this.words, STATE) !== STATE_FINISHED) return EMPTY;
    fence(this.#ownWords);
    if (this.readTail()) return this.#readRecord(); // published before it finished, after we looked
    return this.#violation === undefined ? FINISHED : BROKEN;
  }

  #readRecord(): number {
    for (;;) {
      const offset = this.head & this.mask;
      const word = (DATA_OFFSET + offset) >> 2;
      const length = this.words[word] as number; // once: it may change under us
      const kind = this.words[word + 1] as number;
      const room = Math.min(this.capacity - offset, (this.tail - this.head) | 0) - RECORD_HEADER_BYTES;
      // A length above 2^31 is negative here; the comparison comes before any arithmetic that it could overflow.
      if (length < 0 || length > this.maxPayload || length > room) return this.#refuse("length", length);
      const flags = kind >>> 16;
      const recordBytes = (length + 15) & ~7;
      if (flags !== PAD) return this.#openRecord(offset, length, kind & 0xffff, flags, recordBytes);
      if (offset + recordBytes !== this.capacity) return this.#refuse("length", length);
      this.head = (this.head + recordBytes) | 0;
      if (this.head === this.tail && !this.readTail()) return this.#whyEmpty();
    }
  }

  #openRecord(offset: number, length: number, type: number, flags: number, recordBytes: number): number {
    const first = (flags & FIRST) !== 0;
    if ((flags & ~(FIRST | LAST)) !== 0 || first === ((this.state & IN_MESSAGE) !== 0))
      return this.#refuse("flags", flags);
    // Parts that bring nothing forward could follow one another for ever.
    if (length === 0 && flags !== (FIRST | LAST)) return this.#refuse("length", length);
    this.offset = DATA_OFFSET + offset + RECORD_HEADER_BYTES;
    this.length = length;
    this.type = type;
    this.flags = flags;
    this.#recordBytes = recordBytes;
    this.state |= OPEN;
    return length;
  }

  #refuse(kind: Violation["kind"], value: number): number {
    this.#violation ??= { kind, value, position: this.head };
    this.state = (this.state & ~OPEN) | REFUSED;
    this.tail = this.head;
    return BROKEN;
  }

  #wakeProducer(wake: number): void {
    if ((wake & WAKE_ARMED) === 0 || wake === this.place[IN_RUNG] || ((this.published - (wake & ~7)) | 0) < 0) return;
    this.place[IN_RUNG] = wake;
    this.#wakeupCount.add(1);
    this.#doorbell.ring();
  }
}

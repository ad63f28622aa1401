/**
 * The writing end of a ring without the records: positions, what is published, and when to wake or to sleep.
 *
 * The race it is written against: we publish while the consumer falls asleep. We store the tail and then load its wake
 * word; it stores the wake word and then loads the tail. In every order one of the two sees the other.
 */
import { Counter, carry } from "./counter.ts";
import type { Doorbell } from "./doorbell.ts";
import type { OpenFastPath } from "./fast-path.ts";
import {
  COLD_BYTES,
  COLD_DATA_WAKEUPS,
  COLD_DROPPED,
  COLD_MESSAGES,
  DATA_WAKE,
  HEAD,
  maxPayloadBytes,
  type RingMemory,
  SPACE_WAKE,
  STATE,
  STATE_FINISHED,
  TAIL,
  WAKE_ARMED,
  WAKE_GONE,
} from "./layout.ts";
import { peerLoad } from "./peer-load.ts";
import { ProducerPlace } from "./producer-place.ts";
import { OUT_BYTES, OUT_CAPACITY, OUT_MAX_PAYLOAD, OUT_MESSAGES, OUT_RUNG } from "./state.ts";
import type { Violation } from "./violation.ts";

export type ProducerOptions = {
  /** Our own ring, writable. */
  readonly own: RingMemory;
  /** The other side's, for its control page. */
  readonly peer: RingMemory;
  /** Of our own ring. */
  readonly capacity: number;
  readonly doorbell: Doorbell;
  readonly openFastPath?: OpenFastPath | undefined;
};

export class ProducerCore extends ProducerPlace {
  readonly capacity: number;
  readonly maxPayload: number;
  protected readonly words: Int32Array;
  protected readonly bytes: Uint8Array;
  protected readonly mask: number;
  protected readonly peerWords: Int32Array;
  readonly #wakeupCount: Counter;
  readonly #droppedCount: Counter;
  readonly #doorbell: Doorbell;
  #armed = false;
  #gone = false;
  #finished = false;
  #violation: Violation | undefined;

  constructor({ own, peer, capacity, doorbell, openFastPath }: ProducerOptions) {
    super(openFastPath);
    this.capacity = capacity;
    this.maxPayload = maxPayloadBytes(capacity);
    this.words = own.words;
    this.bytes = own.bytes;
    this.peerWords = peer.words;
    this.mask = capacity - 1;
    this.#doorbell = doorbell;
    this.place[OUT_CAPACITY] = capacity;
    this.place[OUT_MAX_PAYLOAD] = this.maxPayload;
    this.place[OUT_BYTES] = own.words[COLD_BYTES] ?? 0;
    this.place[OUT_MESSAGES] = own.words[COLD_MESSAGES] ?? 0;
    this.#wakeupCount = new Counter(own.words, COLD_DATA_WAKEUPS);
    this.#droppedCount = new Counter(own.words, COLD_DROPPED);
    this.tail = this.published = own.words[TAIL] ?? 0;
    this.limit = (this.tail + capacity) | 0;
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
    this.readHead();
    return (this.limit - this.capacity) | 0;
  }

  /** A number that changes whenever something is put, and whenever it is seen that there is more room. */
  get progress(): number {
    return this.tail + this.limit;
  }

  /** Makes everything that was put visible and wakes the consumer if it asked for that. */
  publish(): void {
    const tail = this.tail;
    if (tail === this.published) return;
    this.published = tail;
    Atomics.store(this.words, TAIL, tail); // a plain store could still be on its way when the wake word is read
    const wake = peerLoad(this.peerWords, DATA_WAKE);
    if (wake !== 0) this.wakeConsumer(wake);
    else this.rung = 0;
  }

  /** Says that a payload of `length` bytes is waited for. @returns true: sleep until the doorbell; false: there is room, or
   *  the channel broke */
  armSpace(length: number): boolean {
    // Like a socket's: not for every few bytes, or each message would cost a wake-up while the ring is full.
    const wanted = Math.max(this.need(length | 0), this.capacity >> 2);
    return this.#arm((this.tail + wanted - this.capacity) | 0, () => this.fits(length | 0));
  }

  /** Asks for the doorbell when the consumer has done with everything. @returns true: sleep until it rings; false: it has,
   *  it never will, or the channel broke */
  armDrained(): boolean {
    return this.#arm(this.tail, () => this.free() === this.capacity);
  }

  /** Done by itself as soon as there is more room than there was. */
  disarmSpace(): void {
    this.#armed = false;
    Atomics.store(this.words, SPACE_WAKE, 0);
  }

  /** Bytes of the ring that the consumer has not done with yet. */
  get unreadBytes(): number {
    this.readHead();
    return this.capacity - this.free();
  }

  /** No record will follow. Wakes the consumer whatever it waits for, but not one that has left. */
  finish(): void {
    if (this.#finished) return;
    this.#finished = true;
    this.publish();
    Atomics.store(this.words, STATE, STATE_FINISHED);
    if ((peerLoad(this.peerWords, DATA_WAKE) & WAKE_ARMED) !== 0) this.#doorbell.ring();
  }

  /** Notes a message that was not put because there was no room. */
  countDropped(): void {
    this.#droppedCount.add(1);
  }

  /** Whether a payload of `length` bytes has room now. */
  hasRoom(length: number): boolean {
    if (this.fits(length | 0)) return true;
    this.readHead();
    return this.fits(length | 0);
  }

  protected free(): number {
    return (this.limit - this.tail) | 0;
  }

  protected fits(length: number): boolean {
    return this.need(length) <= this.free() && this.#violation === undefined;
  }

  /** Bytes of the ring that a payload takes now, with the pad record before it. */
  protected need(length: number): number {
    const record = (length + 15) & ~7;
    const contiguous = (this.capacity - (this.tail & this.mask)) | 0;
    return record > contiguous ? (record + contiguous) | 0 : record;
  }

  /** Adds to the totals that listings read. Not two Counters: this runs for every message.
   *  @param bytes  0 <= bytes < 2^31 */
  protected countMessages(bytes: number, messages: number): void {
    const { words, place } = this;
    const bytesBefore = place[OUT_BYTES] as number;
    const messagesBefore = place[OUT_MESSAGES] as number;
    const bytesSent = (bytesBefore + bytes) | 0;
    const messagesSent = (messagesBefore + messages) | 0;
    if (bytesSent >= 0 && bytesBefore < 0) carry(words, COLD_BYTES);
    if (messagesSent >= 0 && messagesBefore < 0) carry(words, COLD_MESSAGES);
    words[COLD_BYTES] = place[OUT_BYTES] = bytesSent;
    words[COLD_MESSAGES] = place[OUT_MESSAGES] = messagesSent;
  }

  /** Reads the consumer's position once and believes it only if it can be true. After a violation nothing fits any more. */
  protected readHead(): void {
    const head = peerLoad(this.peerWords, HEAD) | 0;
    const limit = (head + this.capacity) | 0;
    if (this.#violation !== undefined) return;
    const moved = (limit - this.limit) | 0;
    if ((head & 7) === 0 && moved >= 0 && ((this.published - head) | 0) >= 0) {
      this.limit = limit;
      if (this.#armed && moved !== 0) this.disarmSpace();
      return;
    }
    this.#violation = { kind: "head", value: head, position: this.tail };
    this.limit = this.tail;
  }

  /** Rings once for each wake word: the consumer writes 0 before it consumes past the position it waited for. */
  protected wakeConsumer(wake: number): void {
    if ((wake & WAKE_GONE) !== 0) {
      this.#gone = this.blocked = true;
      return;
    }
    if (wake === this.place[OUT_RUNG] || ((this.published - (wake & ~7)) | 0) < 0) return;
    this.rung = wake;
    this.#wakeupCount.add(1);
    this.#doorbell.ring();
  }

  #arm(threshold: number, enough: () => boolean): boolean {
    this.publish(); // room comes only from what is seen
    do {
      this.readHead();
      this.#armed = true;
      Atomics.store(this.words, SPACE_WAKE, (threshold & ~7) | WAKE_ARMED);
      this.readHead();
      if (this.#violation !== undefined || enough() || this.#sawGone()) {
        this.disarmSpace();
        return false;
      }
    } while (!this.#armed); // the head moved, not far enough
    return true;
  }

  #sawGone(): boolean {
    if ((peerLoad(this.peerWords, DATA_WAKE) & WAKE_GONE) !== 0) this.#gone = true;
    return this.#gone;
  }
}

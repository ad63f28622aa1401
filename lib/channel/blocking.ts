/** The synchronous half: calls that wait, first looking, then asleep on the doorbell. For workers and dedicated loops. */
import { lengthOf } from "../ring/bytes.ts";
import { FIRST, LAST } from "../ring/layout.ts";
import { deadlineOf } from "../util/milliseconds.ts";
import { BlockingSender } from "./blocking-send.ts";
import type { Message } from "./message.ts";
import { PackedWords } from "./packed-words.ts";
import { timeLeft } from "./waiting.ts";

export class BlockingChannel extends BlockingSender {
  readonly #packed: PackedWords = new PackedWords();

  /** Waits for a message. @param timeoutMs  -1 for no limit
   *  @returns undefined at the end (`ended` is true then), or when the time was up */
  receive(timeoutMs = -1): Message | undefined {
    const deadline = deadlineOf(timeoutMs, "timeoutMs");
    for (;;) {
      const message = this.tryReceive();
      if (message !== undefined || !this.awaitData(deadline)) return message;
    }
  }

  /** Waits for a message and copies it to the start of `into`, without making an object of it.
   *  @returns its bytes, or -1 where receive() has nothing  @throws RangeError when it is longer than `into`; it stays then,
   *  unless it came in several records: those have been given back by the time that the last one tells its length */
  receiveInto(into: Uint8Array, timeoutMs = -1): number {
    const length = this.consumer.receive(into);
    return length >= 0 ? length : this.#receiveWaiting(into, timeoutMs);
  }

  /** The same without waiting; -1 when nothing is there. */
  tryReceiveInto(into: Uint8Array): number {
    const room = lengthOf(into);
    const length = this.nextMessage();
    if (length < 0) return -1;
    if (this.consumer.flags !== (FIRST | LAST)) return this.#receiveLargeInto(into);
    if (length > room) throw new RangeError(`Cannot receive "${length}" bytes into ${room}`);
    this.consumer.take(into);
    return length;
  }

  /**
   * Waits for messages and copies one after another to the start of `into`, calling `visit` after each, as many as are
   * here, at most `max`. The fastest way to receive small ones. Messages of several records come here too. A message is
   * taken before its visit: whatever `visit` receives by itself comes after it, and is not visited.
   * @returns how many; 0 at the end, or when the time was up  @throws RangeError when one is longer than `into`; it stays then
   */
  receiveEach(into: Uint8Array, max: number, visit: (length: number, type: number) => void, timeoutMs = -1): number {
    this.checkOpen();
    if (typeof visit !== "function")
      throw new TypeError("Cannot receive each message: a function to visit them is needed");
    if (!(max >= 1)) throw new RangeError(`Cannot receive "${max}" messages: at least 1 is needed`);
    const deadline = deadlineOf(timeoutMs, "timeoutMs");
    this.keepUp();
    let count = this.consumer.takeMany(into, max, visit);
    while (count === 0) {
      const length = this.receiveInto(into, timeLeft(deadline));
      if (length < 0) return 0;
      visit(length, this.lastType);
      count = 1 + this.consumer.takeMany(into, max - 1, visit);
    }
    if (this.awaiting) this.tookDoorbell();
    return count;
  }

  /**
   * Waits for messages of exactly `messageBytes` and copies those that are here one after another into `into`.
   * @param messageBytes  a multiple of 4, by which the length of `into` can be divided
   * @returns how many; 0 at the end, or when the time was up  @throws RangeError when the next message has another length;
   * it stays then
   */
  receivePacked(into: Uint8Array, messageBytes: number, timeoutMs = -1): number {
    this.checkOpen();
    const deadline = deadlineOf(timeoutMs, "timeoutMs");
    const words = this.#packed.of(into, messageBytes);
    const most = words.byteLength / messageBytes;
    if (most === 0) throw new RangeError(`Cannot receive into 0 bytes: one message of "${messageBytes}" has to fit`);
    this.keepUp();
    for (;;) {
      const count = this.consumer.takePacked(words, messageBytes, most);
      if (count > 0) {
        if (this.awaiting) this.tookDoorbell();
        return count;
      }
      const length = this.nextMessage();
      if (length >= 0) return this.#takeOne(into, messageBytes, length);
      if (!this.awaitData(deadline)) return 0;
    }
  }

  #takeOne(into: Uint8Array, messageBytes: number, length: number): number {
    if (length !== messageBytes || this.consumer.flags !== (FIRST | LAST)) {
      throw new RangeError(`Cannot receive packed messages of "${messageBytes}" bytes: one of ${length} came`);
    }
    this.consumer.take(into);
    return 1;
  }

  /** The type of the message that receiveInto() copied last. */
  get lastType(): number {
    return this.consumer.type;
  }

  /** Waits for bytes. @returns between 1 and `max` of them; undefined at the end, or when the time was up */
  readBytes(max: number, timeoutMs = -1): Uint8Array<ArrayBuffer> | undefined {
    const deadline = deadlineOf(timeoutMs, "timeoutMs");
    for (;;) {
      const bytes = this.tryReadBytes(max);
      if (bytes !== undefined || !this.awaitData(deadline)) return bytes;
    }
  }

  #receiveWaiting(into: Uint8Array, timeoutMs: number): number {
    const length = this.consumer.receive(into, this.looks);
    if (length >= 0) return length;
    const deadline = deadlineOf(timeoutMs, "timeoutMs");
    for (;;) {
      const length = this.tryReceiveInto(into);
      if (length >= 0 || !this.awaitData(deadline)) return length;
    }
  }

  #receiveLargeInto(into: Uint8Array): number {
    const message = this.tryReceive();
    if (message === undefined) return -1;
    if (message.data.length > into.length) {
      throw new RangeError(`Cannot receive "${message.data.length}" bytes into ${into.length}: the message is lost`);
    }
    into.set(message.data);
    return message.data.length;
  }
}

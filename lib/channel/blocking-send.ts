/** The sending part of the synchronous half: calls that wait for room. */
import { lengthOf } from "../ring/bytes.ts";
import { FIRST, LAST, MAX_MESSAGE_BYTES } from "../ring/layout.ts";
import { deadlineOf } from "../util/milliseconds.ts";
import type { SendOptions } from "./end.ts";
import { PackedWords } from "./packed-words.ts";
import { isTimeout, WaitingEnd } from "./waiting.ts";

const BATCH = 16; // records published together

export class BlockingSender extends WaitingEnd {
  readonly #packed: PackedWords = new PackedWords();

  /** Sends one message, waiting for room as long as it takes. @param bytes  copied before this returns
   *  @returns true; false when it was dropped, which only happens with `whenFull: "drop-new"`
   *  @throws ClosedError after close() or end(), or when the peer has gone; RangeError above MAX_MESSAGE_BYTES;
   *  FailureError "timeout" when there was no room in `timeoutMs`. What does not fit into one record cannot be taken back once a
   *  part of it is in the ring: the channel is closed then, and for the peer we have vanished */
  send(bytes: Uint8Array, options?: SendOptions): boolean {
    if (!this.producer.send(bytes, options === undefined ? 0 : (options.type ?? 0))) {
      return this.dropsNew ? this.#sendOrDrop(bytes, options) : this.#sendWaiting(bytes, options);
    }
    this.sent();
    return true;
  }

  /** Sends many messages of one type, making them visible several at a time.
   *  @throws as send(); `timeoutMs` is for all of them, and those before the one that had no room in time are sent. When one
   *  of them is none that can be sent, none is. */
  sendBatch(messages: readonly Uint8Array[], options?: SendOptions): void {
    this.checkSending();
    checkBatch(messages);
    const deadline = deadlineOf(options?.timeoutMs ?? -1, "timeoutMs");
    const type = options?.type ?? 0;
    const producer = this.producer;
    for (let start = 0; start < messages.length; start += BATCH) {
      const end = Math.min(start + BATCH, messages.length);
      for (let index = producer.putMany(messages, start, end, type); index < end; ) {
        const bytes = messages[index++] as Uint8Array;
        if (bytes.length > producer.maxPayload) this.#sendLarge(bytes, type, deadline);
        else if (!producer.put(bytes, type)) this.#putWaiting(bytes, type, deadline);
        index = producer.putMany(messages, index, end, type);
      }
      this.publish();
    }
  }

  /**
   * Sends `bytes` as messages of `messageBytes` each, waiting for room: the fastest way to send small ones of one size.
   * They become visible together, as far as there is room.
   * @param messageBytes  a multiple of 4, by which the length of `bytes` can be divided
   * @throws RangeError when it is not, or too long for one record; as sendBatch()
   */
  sendPacked(bytes: Uint8Array, messageBytes: number, options?: SendOptions): void {
    this.checkSending();
    const deadline = deadlineOf(options?.timeoutMs ?? -1, "timeoutMs");
    const type = (options?.type ?? 0) & 0xffff; // before a look at the bytes: it may run code of the caller's
    const words = this.#packed.of(bytes, messageBytes);
    if (messageBytes > this.producer.maxPayload) {
      throw new RangeError(
        `Cannot send packed messages of "${messageBytes}" bytes: ${this.producer.maxPayload} is the most`,
      );
    }
    const count = words.byteLength / messageBytes;
    for (let index = 0; index < count; ) {
      index = this.producer.putPacked(words, messageBytes, index, count, type);
      if (index === count) break;
      const part = bytes.subarray(index * messageBytes, (index + 1) * messageBytes);
      if (!this.producer.put(part, type)) this.#putWaiting(part, type, deadline); // at the end of the ring, or when it is full
      index += 1;
    }
    this.publish();
  }

  /** Writes bytes without boundaries, waiting for room.
   *  @throws FailureError "timeout" when there was none in `timeoutMs`; some of them may be sent then */
  writeBytes(chunk: Uint8Array, timeoutMs = -1): void {
    this.checkOpen();
    const deadline = deadlineOf(timeoutMs, "timeoutMs");
    const length = lengthOf(chunk);
    const piece = this.pieceBytes;
    for (let at = 0; at < length; at += piece) {
      const part = chunk.subarray(at, at + piece);
      while (!this.trySend(part)) this.awaitSpace(part.length, deadline);
    }
  }

  /** Bytes of a stream that go into one record: small enough that both sides work at the same time. */
  protected get pieceBytes(): number {
    return Math.min(this.producer.maxPayload, Math.max(this.producer.capacity >> 3, 2040), 1 << 18);
  }

  #sendOrDrop(bytes: Uint8Array, options?: SendOptions): boolean {
    if (bytes.length > this.producer.maxPayload) return this.#sendWaiting(bytes, options);
    return this.trySend(bytes, options) || this.dropped();
  }

  #sendWaiting(bytes: Uint8Array, options?: SendOptions): boolean {
    const deadline = deadlineOf(options?.timeoutMs ?? -1, "timeoutMs");
    if (bytes.length > this.producer.maxPayload) return this.#sendLarge(bytes, options?.type ?? 0, deadline);
    while (!this.trySend(bytes, options)) this.awaitSpace(bytes.length, deadline);
    return true;
  }

  #putWaiting(bytes: Uint8Array, type: number, deadline: number): void {
    this.publish();
    while (!this.producer.put(bytes, type)) {
      if (this.dropsNew) return void this.dropped();
      this.noRoom();
      this.awaitSpace(bytes.length, deadline);
    }
  }

  /** @returns false when it was dropped, which is decided by the room for its first part */
  #sendLarge(bytes: Uint8Array, type: number, deadline: number): boolean {
    this.checkSending();
    checkMessageBytes(bytes.length);
    this.publish(); // what a batch has put before: room comes only from what is seen
    const piece = this.pieceBytes;
    if (this.dropsNew && !this.producer.hasRoom(piece)) return this.dropped();
    for (let at = 0; at < bytes.length; at += piece) {
      const flags = (at === 0 ? FIRST : 0) | (at + piece >= bytes.length ? LAST : 0);
      const part = bytes.subarray(at, at + piece);
      while (!this.producer.put(part, type, flags)) {
        this.noRoom();
        if (at === 0) this.awaitSpace(part.length, deadline);
        else this.#awaitSpaceForMore(part.length, deadline);
      }
      this.publish();
    }
    return true;
  }

  #awaitSpaceForMore(length: number, deadline: number): void {
    try {
      this.awaitSpace(length, deadline);
    } catch (error) {
      if (isTimeout(error)) this.abandonMessage(error);
      throw error;
    }
  }
}

export function checkMessageBytes(length: number): void {
  if (length > MAX_MESSAGE_BYTES) {
    throw new RangeError(`Cannot send a message of "${length}" bytes: at most ${MAX_MESSAGE_BYTES} are allowed`);
  }
}

/** Before the first is sent. The same one again costs no look. */
function checkBatch(messages: readonly Uint8Array[]): void {
  if (!Array.isArray(messages)) throw new TypeError("Cannot send a batch: an array of Uint8Array is needed");
  let known: unknown = messages;
  for (const bytes of messages) {
    if (bytes === known) continue;
    checkMessageBytes(lengthOf(bytes));
    known = bytes;
  }
}

/** The synchronous half: calls that wait, first looking, then asleep on the doorbell. For workers and dedicated loops. */
import { FailureError } from "../errors.ts";
import { lengthOf } from "../ring/bytes.ts";
import { EMPTY } from "../ring/consumer.ts";
import { FIRST, LAST, MAX_MESSAGE_BYTES } from "../ring/layout.ts";
import { deadlineOf } from "../util/milliseconds.ts";
import { AdaptiveSpin } from "./adaptive-spin.ts";
import { ChannelEnd, type ChannelOptions, type ChannelParts, type SendOptions } from "./end.ts";
import type { Message } from "./message.ts";
import { PackedWords } from "./packed-words.ts";

const NEVER = Number.POSITIVE_INFINITY;
const BATCH = 16; // records published together

export class BlockingChannel extends ChannelEnd {
  readonly #spin: AdaptiveSpin;
  readonly #dataReady = (): boolean => this.consumer.next() !== EMPTY;
  readonly #spaceReady = (): boolean => this.producer.hasRoom(this.#wantedBytes);
  readonly #packedOut: PackedWords = new PackedWords();
  readonly #packedIn: PackedWords = new PackedWords();
  #wantedBytes = 0;

  constructor(parts: ChannelParts, options: ChannelOptions = {}) {
    super(parts, options);
    this.#spin = new AdaptiveSpin(options.spinUs);
  }

  /** Sends one message, waiting for room as long as it takes. @param bytes  copied before this returns
   *  @returns true; false when it was dropped, which only happens with `whenFull: "drop-new"`
   *  @throws ClosedError after close() or end(), or when the peer has gone; RangeError above MAX_MESSAGE_BYTES;
   *  FailureError "timeout" when the first record had no room in `timeoutMs` */
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

  /** Waits for a message. @param timeoutMs  -1 for no limit
   *  @returns undefined at the end (`ended` is true then), or when the time was up */
  receive(timeoutMs = -1): Message | undefined {
    const deadline = deadlineOf(timeoutMs, "timeoutMs");
    for (;;) {
      const message = this.tryReceive();
      if (message !== undefined || !this.#awaitData(deadline)) return message;
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
   * @returns how many, 0 at the end  @throws RangeError when one is longer than `into`; it stays then
   */
  receiveEach(into: Uint8Array, max: number, visit: (length: number, type: number) => void): number {
    this.checkOpen();
    if (typeof visit !== "function")
      throw new TypeError("Cannot receive each message: a function to visit them is needed");
    if (!(max >= 1)) throw new RangeError(`Cannot receive "${max}" messages: at least 1 is needed`);
    this.keepUp();
    let count = this.consumer.takeMany(into, max, visit);
    while (count === 0) {
      const length = this.receiveInto(into);
      if (length < 0) return 0;
      visit(length, this.lastType);
      count = 1 + this.consumer.takeMany(into, max - 1, visit);
    }
    if (this.awaiting) this.tookDoorbell();
    return count;
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
    const words = this.#packedOut.of(bytes, messageBytes);
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

  /**
   * Waits for messages of exactly `messageBytes` and copies those that are here one after another into `into`.
   * @param messageBytes  a multiple of 4, by which the length of `into` can be divided
   * @returns how many, 0 at the end  @throws RangeError when the next message has another length; it stays then
   */
  receivePacked(into: Uint8Array, messageBytes: number): number {
    this.checkOpen();
    const words = this.#packedIn.of(into, messageBytes);
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
      if (!this.#awaitData(NEVER)) return 0;
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

  /** Writes bytes without boundaries, waiting for room. */
  writeBytes(chunk: Uint8Array): void {
    this.checkOpen();
    const length = lengthOf(chunk);
    const piece = this.pieceBytes;
    for (let at = 0; at < length; at += piece) {
      const part = chunk.subarray(at, at + piece);
      if (!this.trySend(part)) this.#sendWaiting(part);
    }
  }

  /** Waits for bytes. @returns between 1 and `max` of them, undefined at the end */
  readBytes(max: number): Uint8Array<ArrayBuffer> | undefined {
    for (;;) {
      const bytes = this.tryReadBytes(max);
      if (bytes !== undefined || !this.#awaitData(NEVER)) return bytes;
    }
  }

  /** Bytes of a stream that go into one record: small enough that both sides work at the same time. */
  protected get pieceBytes(): number {
    return Math.min(this.producer.maxPayload, Math.max(this.producer.capacity >> 3, 2040), 1 << 18);
  }

  #sendOrDrop(bytes: Uint8Array, options?: SendOptions): boolean {
    if (bytes.length > this.producer.maxPayload) return this.#sendLarge(bytes, options?.type ?? 0, NEVER);
    return this.trySend(bytes, options) || this.dropped();
  }

  #sendWaiting(bytes: Uint8Array, options?: SendOptions): boolean {
    const deadline = deadlineOf(options?.timeoutMs ?? -1, "timeoutMs");
    if (bytes.length > this.producer.maxPayload) return this.#sendLarge(bytes, options?.type ?? 0, deadline);
    while (!this.trySend(bytes, options)) this.#awaitSpace(bytes.length, deadline);
    return true;
  }

  #putWaiting(bytes: Uint8Array, type: number, deadline: number): void {
    this.publish();
    while (!this.producer.put(bytes, type)) {
      if (this.dropsNew) return void this.dropped();
      this.noRoom();
      this.#awaitSpace(bytes.length, deadline);
    }
  }

  /** @returns false when it was dropped. Once its first part has room the others wait for theirs. */
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
        this.#awaitSpace(part.length, at === 0 ? deadline : NEVER);
      }
      this.publish();
    }
    return true;
  }

  #receiveWaiting(into: Uint8Array, timeoutMs: number): number {
    const length = this.consumer.receive(into, this.#spin.looks);
    if (length >= 0) return length;
    const deadline = deadlineOf(timeoutMs, "timeoutMs");
    for (;;) {
      const length = this.tryReceiveInto(into);
      if (length >= 0 || !this.#awaitData(deadline)) return length;
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

  /** After a look that found no message. @returns false at the end, or when the time was up at that look already: neither
   *  parts of a message without an end nor a doorbell that never stops make it longer */
  #awaitData(deadline: number): boolean {
    if (this.ended) return false;
    const inTime = timeLeft(deadline) !== 0;
    if (inTime && this.#spin.run(this.#dataReady)) return true;
    if (!this.armReceive()) return inTime;
    const rung = this.#sleep(deadline);
    this.consumer.disarmData();
    this.tookDoorbell();
    return inTime ? rung || this.consumer.next() !== EMPTY : this.doorbell.hungUp;
  }

  /** @returns false when the time was up */
  #sleep(deadline: number): boolean {
    const rung = this.doorbell.wait(timeLeft(deadline));
    const restMs = rung ? this.noteWake() : 0;
    if (restMs > 0 && !this.doorbell.hungUp) {
      this.doorbell.awaitHangUp(deadline === NEVER ? restMs : Math.min(restMs, timeLeft(deadline)));
    }
    return rung;
  }

  /** @param deadline  by performance.now() @throws FailureError "timeout" */
  #awaitSpace(length: number, deadline: number): void {
    this.#wantedBytes = length;
    const inTime = timeLeft(deadline) !== 0;
    if (inTime && this.#spin.run(this.#spaceReady)) return;
    if (!this.armSend(length)) return;
    const rung = this.#sleep(deadline);
    this.producer.disarmSpace();
    this.tookDoorbell();
    if (!(rung && inTime) && !this.doorbell.hungUp && !this.producer.hasRoom(length)) {
      throw new FailureError("timeout", `Cannot send on channel "${this.channelId}": the peer made no room in time`);
    }
  }
}

/** Milliseconds until then, for poll(2): -1 for never. */
function timeLeft(deadline: number): number {
  return deadline === NEVER ? -1 : Math.max(0, Math.ceil(deadline - performance.now()));
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

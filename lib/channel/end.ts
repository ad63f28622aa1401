/**
 * One end of a channel: two mappings, a producer, a consumer, a doorbell, and what state they are in. Everything here
 * returns at once; waiting is added on top (blocking.ts, channel.ts), or done by a reactor that watches `doorbellFd`.
 *
 * Invariant: after close() or after the peer broke the rules no ring memory is touched any more, and every method
 * throws the reason.
 */
import type { BorrowedFd, Mapping, OwnedFd } from "../../ffi/mod.ts";
import { ClosedError, ProtocolError } from "../errors.ts";
import { BROKEN, EMPTY, FINISHED, RingConsumer } from "../ring/consumer.ts";
import { FIRST, LAST, MAX_MESSAGE_BYTES, type RingMemory, type RingSide, ringMemory } from "../ring/layout.ts";
import { RingProducer } from "../ring/producer.ts";
import { describeViolation, type Violation } from "../ring/violation.ts";
import { Assembly, type Message } from "./message.ts";
import { SocketDoorbell } from "./socket-doorbell.ts";

/** `strict` copies out before anything is looked at; `trusted` may hand out views into the ring. */
export type Trust = "strict" | "trusted";

export type ChannelOptions = {
  readonly trust?: Trust;
  /** Who is at the other end, as the broker was told by the kernel. */
  readonly peerPid?: number;
  readonly peerUid?: number;
  /** How long a blocking call looks before it sleeps, at most; microseconds, 0 for never. */
  readonly spinUs?: number;
  /** Longest message that is accepted, its fragments together. */
  readonly maxMessageBytes?: number;
  /** Called once, when this end closes for whatever reason. */
  readonly onClose?: () => void;
};

export type ChannelParts = {
  readonly channelId: number;
  readonly side: RingSide;
  readonly own: Mapping;
  readonly ownCapacity: number;
  readonly peer: Mapping;
  readonly peerCapacity: number;
  readonly doorbell: OwnedFd;
};

export type SendOptions = {
  /** For the receiver to tell messages apart, 0 … 65535. */
  readonly type?: number;
};

const CLOCK_MASK = 15; // every 16 sends a look at the clock,
const CHECK_EVERY_MS = 1; // and so often at whether the consumer moves
const NOTHING: Uint8Array<ArrayBuffer> = new Uint8Array(0);

export class ChannelEnd implements Disposable {
  readonly channelId: number;
  readonly side: RingSide;
  readonly trust: Trust;
  readonly peerPid: number | undefined;
  readonly peerUid: number | undefined;
  protected readonly producer: RingProducer;
  protected readonly consumer: RingConsumer;
  protected readonly doorbell: SocketDoorbell;
  /** The reason why nothing works any more. */
  protected refusal: Error | undefined;
  readonly #own: Mapping;
  readonly #peer: Mapping;
  readonly #ownBytes: Uint8Array;
  readonly #maxMessageBytes: number;
  readonly #onClose: (() => void) | undefined;
  #violation: Violation | undefined;
  #peerEnded: "finished" | "vanished" | undefined;
  #assembly: Assembly | undefined;
  #peeked: Message | undefined;
  #ending = false;
  #sendingAsync = false;
  #awaiting = false;
  #sends = 0;
  #nextCheck = 0;
  #headAtCheck = 0;

  /** Takes the mappings and the doorbell. */
  constructor(parts: ChannelParts, options: ChannelOptions = {}) {
    this.channelId = parts.channelId;
    this.side = parts.side;
    this.trust = options.trust ?? "strict";
    this.peerPid = options.peerPid;
    this.peerUid = options.peerUid;
    this.#maxMessageBytes = Math.min(options.maxMessageBytes ?? MAX_MESSAGE_BYTES, MAX_MESSAGE_BYTES);
    this.#onClose = options.onClose;
    this.#own = parts.own;
    this.#peer = parts.peer;
    const own: RingMemory = ringMemory(parts.own.buffer);
    const peer: RingMemory = ringMemory(parts.peer.buffer);
    this.#ownBytes = own.bytes;
    const doorbell = new SocketDoorbell(parts.doorbell, () => this.#blockSending());
    this.doorbell = doorbell;
    this.producer = new RingProducer({ own, peer, capacity: parts.ownCapacity, doorbell });
    this.consumer = new RingConsumer({ own, peer, capacity: parts.peerCapacity, doorbell });
  }

  /** To watch for reading in an event loop of one's own; every event means drainDoorbell(). */
  get doorbellFd(): BorrowedFd {
    return this.doorbell.fd;
  }

  get closed(): boolean {
    return this.refusal !== undefined;
  }

  /** What the peer did wrong, if it did. */
  get violation(): Violation | undefined {
    return this.#violation;
  }

  /** Set once everything was received: "finished" if the peer said that it ends, "vanished" if it was just gone. */
  get peerEnded(): "finished" | "vanished" | undefined {
    return this.#peerEnded;
  }

  /** Whether nothing will be received any more. */
  get ended(): boolean {
    return this.#peerEnded !== undefined;
  }

  /** Bytes of payload that fit into one record; a longer message is sent in several. */
  get maxRecordBytes(): number {
    return this.producer.maxPayload;
  }

  /** end() was called. */
  protected get ending(): boolean {
    return this.#ending;
  }

  /** Records of an asynchronous send may still have to follow: nothing may come between them. */
  protected set sendingAsync(sending: boolean) {
    this.#sendingAsync = sending;
    this.#blockSending();
  }

  /** Whether an await is under way, which tookDoorbell() has to hear of. */
  protected get awaiting(): boolean {
    return this.#awaiting;
  }

  protected set awaiting(awaiting: boolean) {
    this.#awaiting = awaiting;
    this.consumer.watched = awaiting;
  }

  // Sending

  /** Sends if there is room now. @param bytes  at most maxRecordBytes
   *  @throws ClosedError after close() or end(), or when the peer has gone; RangeError when it is too long for a record */
  trySend(bytes: Uint8Array, options?: SendOptions): boolean {
    if (!this.producer.send(bytes, options === undefined ? 0 : (options.type ?? 0)))
      return this.#whyNotSent(bytes.length);
    this.sent();
    return true;
  }

  /** Room in our ring for a message of `length` bytes, to be written in place, then commit(). Forget the view after that.
   *  @returns undefined when there is no room */
  reserve(length: number, options?: SendOptions): Uint8Array | undefined {
    this.checkSending();
    const offset = this.producer.reserve(length, options?.type ?? 0);
    if (offset >= 0) return this.#ownBytes.subarray(offset, offset + length);
    this.noRoom();
    return undefined;
  }

  /** Sends what was reserved, or its first `length` bytes. */
  commit(length?: number): void {
    if (this.refusal !== undefined || this.#ending || this.#sendingAsync) this.refuseToSend();
    this.producer.commit(length);
    this.publish();
  }

  /** Free room in our ring for bytes without boundaries, so that read(2) can fill it; then commitSpan(). Empty when full. */
  writableSpan(): Uint8Array {
    this.checkSending();
    const offset = this.producer.reserveSpan();
    if (offset >= 0) return this.#ownBytes.subarray(offset, offset + this.producer.spanLength);
    this.noRoom();
    return NOTHING;
  }

  /** Sends the first `count` bytes of the span, as one record. */
  commitSpan(count: number): void {
    if (count > 0) this.commit(count);
  }

  /** Says that nothing more will be sent; the peer reads what is there and then the end. Safe to call twice. */
  end(): void {
    if (this.refusal !== undefined) return;
    this.#ending = true;
    this.#blockSending();
    this.producer.finish();
  }

  /** For a reactor: asks for the doorbell when a payload of `length` bytes has room. @returns true: sleep; false: try now */
  armSend(length: number): boolean {
    this.checkPeer();
    return this.producer.armSpace(Math.min(length, this.producer.maxPayload)) && !this.doorbell.hungUp;
  }

  /** What the peer has received but not released, or not received yet; 0: it has done with everything. */
  get unreadBytes(): number {
    this.checkOpen();
    return this.producer.unreadBytes;
  }

  /** For a reactor: asks for the doorbell when unreadBytes gets 0. @returns true: sleep; false: it is, or never will be */
  armDrained(): boolean {
    this.checkOpen();
    return this.producer.armDrained() && !this.doorbell.hungUp;
  }

  // Receiving

  /** A message that is here already. @returns undefined when there is none; `ended` tells whether one can come
   *  @throws ProtocolError when the peer breaks the rules, which ends the channel; ClosedError after close() */
  tryReceive(): Message | undefined {
    for (let length = this.nextRecord(); length >= 0; length = this.nextRecord()) {
      const { flags, type } = this.consumer;
      if (flags === (FIRST | LAST)) return { type, data: this.#takeRecord() };
      const message = this.#gather(flags, type);
      if (message !== undefined) return message;
    }
    return undefined;
  }

  /** The next message in place, until release(). Only on a trusted channel: the peer can change the bytes meanwhile. */
  peek(): Uint8Array | undefined {
    if (this.trust !== "trusted")
      throw new TypeError("Cannot peek: only a channel completed as trusted shows its ring");
    if (this.#peeked !== undefined) return this.#peeked.data;
    if (this.nextRecord() < 0) return undefined;
    if (this.consumer.flags === (FIRST | LAST)) return this.consumer.view();
    this.#peeked = this.tryReceive();
    return this.#peeked?.data;
  }

  /** Done with what peek() gave. */
  release(): void {
    this.checkOpen();
    if (this.#peeked !== undefined) this.#peeked = undefined;
    else if (this.nextRecord() >= 0) this.consumer.release();
  }

  /** Up to `max` bytes that are here already, message boundaries ignored. @returns undefined when there are none */
  tryReadBytes(max: number): Uint8Array<ArrayBuffer> | undefined {
    if (this.#nextBytes() < 0) return undefined;
    const bytes = this.consumer.copy(max);
    this.consumer.skip(bytes.length);
    return bytes;
  }

  /** Bytes that are here already, in place, for write(2) to take them; then releaseSpan(). They are the peer's: do not parse. */
  readableSpan(): Uint8Array | undefined {
    return this.#nextBytes() < 0 ? undefined : this.consumer.view();
  }

  /** Done with the first `count` bytes of the span. */
  releaseSpan(count: number): void {
    this.checkOpen();
    if (count > 0) this.consumer.skip(count);
  }

  /** For a reactor: asks for the doorbell when there is data. @returns true: sleep; false: there is some, or the end */
  armReceive(): boolean {
    this.checkOpen();
    return this.consumer.armData() && !this.doorbell.hungUp;
  }

  /** For a reactor: takes the bytes that rang. After a hang-up what was published can still be received. */
  drainDoorbell(): "open" | "hangup" {
    this.checkOpen();
    return this.doorbell.drain();
  }

  // Ending

  /** Ends our direction, hangs up, unmaps. Views into the ring become empty. Safe to call twice. */
  close(): void {
    if (this.refusal !== undefined) return;
    this.producer.finish();
    this.consumer.leave();
    this.shut(new ClosedError(`Cannot use channel "${this.channelId}": it was closed`));
  }

  [Symbol.dispose](): void {
    this.close();
  }

  protected shut(reason: Error): void {
    this.refusal = reason;
    this.#blockSending();
    this.consumer.watched = true;
    this.doorbell.close();
    this.#own.close();
    this.#peer.close();
    this.#onClose?.();
  }

  protected checkOpen(): void {
    if (this.refusal !== undefined) throw this.refusal;
  }

  protected checkSending(): void {
    if (this.refusal !== undefined || this.#ending || this.#sendingAsync) this.refuseToSend();
    this.checkPeer();
  }

  protected checkPeer(): void {
    this.checkOpen();
    if (this.doorbell.hungUp) this.refusePeerGone();
  }

  protected refuseToSend(): never {
    this.checkOpen();
    if (this.#sendingAsync && !this.#ending) {
      throw new Error(`Cannot send on channel "${this.channelId}": an asynchronous send is under way, await it first`);
    }
    throw new ClosedError(`Cannot send on channel "${this.channelId}": it was ended`);
  }

  protected refusePeerGone(): never {
    throw new ClosedError(`Cannot send on channel "${this.channelId}": the peer has gone`);
  }

  /** Publishes what was put, and notices when nobody is there to read it. */
  protected publish(): void {
    this.producer.publish();
    this.sent();
    if (this.producer.stuck || this.doorbell.hungUp) this.noRoom();
  }

  protected sent(): void {
    const sends = (this.#sends + 1) | 0;
    this.#sends = sends;
    if ((sends & CLOCK_MASK) === 0) this.#checkProgress();
  }

  /** Finds the record to read next. @returns its bytes, or a negative number: nothing there, or nothing will come */
  protected nextRecord(): number {
    if (this.refusal !== undefined) throw this.refusal;
    const length = this.consumer.next();
    if (length < 0) return this.#noRecord(length);
    if (this.#awaiting) this.tookDoorbell(); // a record found disarms the wake word: whoever awaits has to arm it again
    return length;
  }

  /** Somebody else took bytes from the doorbell or disarmed: whoever awaits has to look again. */
  protected tookDoorbell(): void {}

  /** @returns false, or throws when there will never be room */
  protected noRoom(): false {
    if (this.producer.violation !== undefined) this.#break(this.producer.violation);
    if (this.producer.peerGone || this.doorbell.hungUp) this.refusePeerGone();
    return false;
  }

  #blockSending(): void {
    this.producer.blocked =
      this.refusal !== undefined ||
      this.#ending ||
      this.#sendingAsync ||
      this.doorbell.hungUp ||
      this.producer.peerGone;
  }

  #whyNotSent(length: number): false {
    if (this.refusal !== undefined || this.#ending || this.#sendingAsync) this.refuseToSend();
    if (length > this.maxRecordBytes) {
      throw new RangeError(`Cannot send "${length}" bytes as one record: it holds at most ${this.maxRecordBytes}`);
    }
    return this.noRoom();
  }

  /** A peer that was killed while awake never has its doorbell rung: if it does not move, look whether it is there. */
  #checkProgress(): void {
    const now = performance.now();
    if (now < this.#nextCheck) return;
    this.#nextCheck = now + CHECK_EVERY_MS;
    const head = this.producer.refreshHead();
    if (this.producer.violation !== undefined) this.#break(this.producer.violation);
    const moved = head !== this.#headAtCheck;
    this.#headAtCheck = head;
    if (!moved && this.doorbell.checkHangUp()) this.noRoom();
  }

  #noRecord(why: number): number {
    if (why === BROKEN) this.#break(this.consumer.violation);
    // What it published before the hang-up is visible after it, so one more look decides.
    if (why === EMPTY && this.doorbell.hungUp) {
      const again = this.consumer.next();
      if (again >= 0) return again;
      if (again === BROKEN) this.#break(this.consumer.violation);
      this.#peerEnded = again === FINISHED ? "finished" : "vanished";
    }
    if (why === FINISHED) this.#peerEnded = "finished";
    return why;
  }

  #break(violation: Violation | undefined): never {
    if (violation === undefined) throw new TypeError("Cannot break a channel without a violation");
    this.#violation = violation;
    const error = new ProtocolError(`Cannot use channel "${this.channelId}": ${describeViolation(violation)}`);
    this.shut(error);
    throw error;
  }

  #takeRecord(): Uint8Array<ArrayBuffer> {
    const data = this.consumer.copy();
    this.consumer.release();
    return data;
  }

  #gather(flags: number, type: number): Message | undefined {
    if ((flags & FIRST) !== 0 || this.#assembly === undefined) this.#assembly = new Assembly(type);
    const assembly = this.#assembly;
    const total = assembly.bytes + this.consumer.length;
    if (total > this.#maxMessageBytes) {
      this.consumer.refuseMessage(total);
      this.#break(this.consumer.violation);
    }
    assembly.add(this.#takeRecord());
    if ((flags & LAST) === 0) return undefined;
    this.#assembly = undefined;
    return assembly.finish();
  }

  /** Like nextRecord(), but empty messages are no bytes. */
  #nextBytes(): number {
    let length = this.nextRecord();
    for (; length === 0; length = this.nextRecord()) this.consumer.release();
    return length;
  }
}

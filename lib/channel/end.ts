/**
 * One end of a channel in both directions. Everything here returns at once; waiting is added on top (blocking.ts,
 * duplex.ts), or done by a reactor that watches `doorbellFd`.
 */
import { BROKEN, EMPTY, FINISHED } from "../ring/consumer.ts";
import { FIRST, LAST } from "../ring/layout.ts";
import { checkCount } from "../util/count.ts";
import { Assembly, type Message } from "./message.ts";
import { SendingEnd } from "./sending.ts";

export type { ChannelOptions, ChannelParts, Direction, EndOptions, Trust, WhenBehind, WhenFull } from "./core.ts";
export type { SendAsyncOptions, SendOptions } from "./sending.ts";

/** Records without a whole message that one call takes: a small part of a millisecond. */
const RECORDS_A_CALL = 4096;
const NO_SPAN = -1; // no position: those are multiples of 8

export class ChannelEnd extends SendingEnd {
  /** How many records were taken that were no whole message: parts of one, or no bytes of a stream. */
  protected pieces = 0;
  #awaiting = false;
  #peerEnded: "finished" | "vanished" | undefined;
  #assembly: Assembly | undefined;
  #peeked: Message | undefined;
  #spanAt: number = NO_SPAN; // consumer.progress at readableSpan()

  /** Set once everything was received: "finished" if the peer said that it ends, "vanished" if it was just gone, or ended in the
   *  midst of a message, whose beginning is lost. */
  get peerEnded(): "finished" | "vanished" | undefined {
    return this.#peerEnded;
  }

  /** Whether nothing will be received any more. */
  get ended(): boolean {
    return this.#peerEnded !== undefined;
  }

  /** Whether an await is under way, which tookDoorbell() has to hear of. */
  protected get awaiting(): boolean {
    return this.#awaiting;
  }

  protected set awaiting(awaiting: boolean) {
    this.#awaiting = awaiting;
    this.consumer.watched = awaiting || this.dropsOld || this.refusal !== undefined;
  }

  /** A message that is here already. @returns undefined when there is none; `ended` tells whether one can come
   *  @throws ProtocolError when the peer breaks the rules, which ends the channel; ClosedError after close() */
  tryReceive(): Message | undefined {
    this.#begin();
    return this.#receiveWithin(this.#mostRecords);
  }

  /** The newest whole message that is here already; those before it are thrown away and counted. Of one who goes on sending
   *  meanwhile no more is looked at than fits into the ring once. */
  tryReceiveNewest(): Message | undefined {
    this.#begin();
    const before = this.pieces;
    let newest: Message | undefined;
    for (let left = this.#recordsInRing; ; ) {
      left -= this.consumer.skipToLast(left - 1);
      const newer = this.#receiveWithin(left - (this.pieces - before));
      if (newer === undefined) return newest;
      if (newest !== undefined) this.consumer.countSkipped(1);
      newest = newer;
      left -= 1;
    }
  }

  /** The next message in place, until release(). Only on a trusted channel: the peer can change the bytes meanwhile. */
  peek(): Uint8Array | undefined {
    this.checkOpen();
    if (this.trust !== "trusted")
      throw new TypeError("Cannot peek: only a channel completed as trusted shows its ring");
    if (this.#peeked !== undefined) return this.#peeked.data;
    if (this.nextMessage() < 0) return undefined;
    if (this.consumer.flags === (FIRST | LAST)) return this.show(this.consumer.view());
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
    if (!(max >= 1)) throw new RangeError(`Cannot read "${max}" bytes: at least 1 is needed`);
    if (this.#nextBytes() < 0) return undefined;
    const bytes = this.consumer.copy(max);
    this.consumer.skip(bytes.length);
    return bytes;
  }

  /** Bytes that are here already, in place, for write(2) to take them; then releaseSpan(). They are the peer's: do not parse. */
  readableSpan(): Uint8Array | undefined {
    if (this.#nextBytes() < 0) return undefined;
    this.#spanAt = this.consumer.progress;
    return this.show(this.consumer.view());
  }

  /** Done with the first `count` bytes of the span, or of what is left of it.
   *  @throws TypeError when there is none, or when `count` is no whole number; RangeError when less is left. Nothing moves then */
  releaseSpan(count: number): void {
    this.checkOpen();
    const most = this.consumer.leftAt(this.#spanAt);
    if (most < 0 && count !== 0) throw new TypeError("Cannot release a span: there is none, call readableSpan() first");
    checkCount(count, Math.max(most, 0), "bytes of a span to release");
    if (count > 0) this.consumer.skip(count);
  }

  /** For a reactor: asks for the doorbell when there is data. @returns true: sleep; false: there is some, or the end */
  armReceive(): boolean {
    this.checkOpen();
    if (this.direction === "send") this.refuseToReceive();
    return this.consumer.armData() && !this.doorbell.hungUp;
  }

  /** Finds the record to read next. @returns its bytes, or a negative number: nothing there, or nothing will come */
  protected nextRecord(): number {
    this.#begin();
    return this.#findRecord();
  }

  /** Once in each call of the caller's: a sender at full speed would have us throw messages away for ever. */
  #begin(): void {
    if (this.refusal !== undefined) throw this.refusal;
    this.keepUp();
  }

  #findRecord(): number {
    const length = this.consumer.next();
    if (length < 0) return this.#noRecord(length);
    if (this.#awaiting) this.tookDoorbell(); // a record found disarms the wake word: whoever awaits has to arm it again
    return length;
  }

  /** Throws the oldest messages away where that is wanted and we are behind. */
  protected keepUp(): void {
    if (!this.dropsOld) return;
    const quarter = this.consumer.capacity >> 2;
    this.pieces += this.consumer.skipOld(3 * quarter, quarter);
  }

  /** Somebody else took bytes from the doorbell or disarmed: whoever awaits has to look again. */
  protected tookDoorbell(): void {}

  #noRecord(why: number): number {
    if (why === BROKEN) this.break(this.consumer.violation);
    if (this.direction === "send") this.refuseToReceive();
    // What it published before the hang-up is visible after it, so one more look decides.
    if (why === EMPTY && this.doorbell.hungUp) {
      const again = this.consumer.next();
      if (again >= 0) return again;
      if (again === BROKEN) this.break(this.consumer.violation);
      this.#peerEnded = again === FINISHED && !this.consumer.isInMessage ? "finished" : "vanished";
    }
    if (why === FINISHED) this.#peerEnded = !this.consumer.isInMessage ? "finished" : "vanished";
    return why;
  }

  #receiveWithin(most: number): Message | undefined {
    for (let records = most; records > 0 && this.#findRecord() >= 0; records--) {
      const { flags, type } = this.consumer;
      if (flags === (FIRST | LAST)) {
        this.#checkMessageBytes(this.consumer.length);
        return { type, data: this.#takeRecord() };
      }
      const message = this.#gather(flags, type);
      if (message !== undefined) return message;
    }
    return undefined;
  }

  #checkMessageBytes(length: number): void {
    if (length <= this.maxMessageBytes) return;
    this.consumer.refuseMessage(length);
    this.break(this.consumer.violation);
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
    this.#checkMessageBytes(total);
    assembly.add(this.consumer.view());
    this.consumer.release();
    this.pieces++;
    if ((flags & LAST) === 0) return undefined;
    this.#assembly = undefined;
    return assembly.finish();
  }

  /** nextRecord(), of which at least the first part may be taken as a message. */
  protected nextMessage(): number {
    const length = this.nextRecord();
    this.#checkMessageBytes(length);
    return length;
  }

  /** Like nextRecord(), but empty messages are no bytes, and nothing is dropped. */
  #nextBytes(): number {
    if (this.refusal !== undefined) throw this.refusal;
    for (let records = this.#mostRecords; records > 0; records--) {
      const length = this.#findRecord();
      if (length !== 0) return length;
      this.consumer.release();
      this.pieces++;
    }
    return EMPTY;
  }

  /** A sender that goes on while we read must not keep us in one call for ever. */
  get #mostRecords(): number {
    return Math.min(this.#recordsInRing, RECORDS_A_CALL);
  }

  /** As many as fit, at least a look. */
  get #recordsInRing(): number {
    return (this.consumer.capacity >> 3) | 1;
  }
}

/** The sending direction of one end of a channel, without waiting: that is added on top, or done by a reactor. */
import { ClosedError, FailureError } from "../errors.ts";
import { ChannelCore, type ChannelOptions, type ChannelParts } from "./core.ts";

export type SendOptions = {
  /** For the receiver to tell messages apart, 0 … 65535. */
  readonly type?: number;
  /** How long a blocking send waits for room; -1, as by default, for no limit. What did not fit in time is not sent;
   *  where a part of it was, the channel is closed. */
  readonly timeoutMs?: number;
};

export type SendAsyncOptions = {
  /** As of SendOptions. */
  readonly type?: number;
  /** Gives up a send that waits for room, or for those before it; AbortSignal.timeout() makes a limit. A message of which a
   *  part is in the ring already cannot be taken back: the channel is closed then, and for the peer we have vanished. */
  readonly signal?: AbortSignal | undefined;
};

const CHECK_EVERY_MS = 1; // so often a look at whether the consumer moves,
const MOST_SENDS = 32; // and at the clock after so many sends, or fewer when they are slow
const NOWHERE = -1; // no position: those are multiples of 8
const NOTHING: Uint8Array<ArrayBuffer> = new Uint8Array(0);

export class SendingEnd extends ChannelCore {
  #ending: boolean = this.direction === "receive"; // it has no ring to put anything into
  #sendingAsync = false;
  #sends = 0; // until the next look at the clock
  #sendsALook = 1;
  #lastLook = 0;
  #nextCheck = 0;
  #headAtCheck = NOWHERE;

  constructor(parts: ChannelParts, options?: ChannelOptions) {
    super(parts, options);
    if (this.#ending) this.blockSending();
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
    this.blockSending();
  }

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
    if (offset >= 0) return this.show(this.ownBytes.subarray(offset, offset + length));
    this.#refused();
    return undefined;
  }

  /** Sends what was reserved, or its first `length` bytes. @throws RangeError when it is more, and nothing is sent */
  commit(length?: number): void {
    if (this.refusal !== undefined || this.#ending || this.#sendingAsync) this.refuseToSend();
    this.producer.commit(length);
    this.publish();
  }

  /** Free room in our ring for bytes without boundaries, so that read(2) can fill it; then commitSpan(). Empty when full. */
  writableSpan(): Uint8Array {
    this.checkSending();
    const offset = this.producer.reserveSpan();
    if (offset >= 0) return this.show(this.ownBytes.subarray(offset, offset + this.producer.spanLength));
    this.#refused();
    return NOTHING;
  }

  /** Sends the first `count` bytes of the span, as one record; of none it makes nothing. */
  commitSpan(count: number): void {
    if (count !== 0) this.commit(count);
    else this.checkOpen();
  }

  /** Says that nothing more will be sent; the peer reads what is there and then the end. Safe to call twice. */
  end(): void {
    if (this.refusal !== undefined) return;
    this.#ending = true;
    this.blockSending();
    this.producer.finish();
  }

  /** For a reactor: asks for the doorbell when a payload of `length` bytes has room. @returns true: sleep; false: try now */
  armSend(length: number): boolean {
    if (this.direction === "receive") this.refuseToSend();
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
    if (this.direction === "receive") {
      throw new FailureError(
        "one-way",
        `Cannot send on channel "${this.channelId}": it is one-way, this end only receives`,
      );
    }
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
    const sends = (this.#sends - 1) | 0;
    this.#sends = sends;
    if (sends < 0) this.#lookAtClock();
  }

  /** Counts a message that is dropped for want of room. @returns false, or throws when there will never be room */
  protected dropped(): false {
    this.noRoom();
    this.producer.countDropped();
    this.sent(); // who never waits has to look at times whether anybody is there
    return false;
  }

  /** @returns false, or throws when there will never be room */
  protected noRoom(): false {
    if (this.producer.violation !== undefined) this.break(this.producer.violation);
    if (this.producer.peerGone || this.doorbell.hungUp) this.refusePeerGone();
    return false;
  }

  protected override blockSending(): void {
    super.blockSending();
    this.producer.blocked ||= this.#ending || this.#sendingAsync;
  }

  #whyNotSent(length: number): false {
    if (this.refusal !== undefined || this.#ending || this.#sendingAsync) this.refuseToSend();
    if (length > this.maxRecordBytes) {
      throw new RangeError(`Cannot send "${length}" bytes as one record: it holds at most ${this.maxRecordBytes}`);
    }
    return this.#refused();
  }

  /** Somebody may ask again and again for room that a killed peer will never make. */
  #refused(): false {
    this.sent();
    return this.noRoom();
  }

  #lookAtClock(): void {
    const now = performance.now();
    const passed = now - this.#lastLook;
    this.#lastLook = now;
    if (passed > CHECK_EVERY_MS) this.#sendsALook = 1;
    else if (passed < CHECK_EVERY_MS / 8) this.#sendsALook = Math.min(this.#sendsALook * 2, MOST_SENDS);
    this.#sends = this.#sendsALook - 1;
    if (now < this.#nextCheck) return;
    this.#nextCheck = now + CHECK_EVERY_MS;
    this.#checkProgress();
  }

  /** A peer that was killed while awake never has its doorbell rung: if something waits for it and it has not moved since
   *  the last look, see whether it is there. */
  #checkProgress(): void {
    const head = this.producer.refreshHead();
    if (this.producer.violation !== undefined) this.break(this.producer.violation);
    const before = this.#headAtCheck;
    this.#headAtCheck = this.producer.unreadBytes === 0 ? NOWHERE : head;
    if (head === before && this.doorbell.checkHangUp()) this.noRoom();
  }
}

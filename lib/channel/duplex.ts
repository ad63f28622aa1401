/**
 * A whole channel: blocking calls, their asynchronous counterparts, iteration and streams. Both kinds may be mixed,
 * because all state is in the rings and a wake-up for nothing is harmless.
 */
import { lengthOf } from "../ring/bytes.ts";
import { FIRST, LAST } from "../ring/layout.ts";
import { AsyncDoorbell } from "./async-doorbell.ts";
import { BlockingChannel } from "./blocking.ts";
import { checkMessageBytes } from "./blocking-send.ts";
import type { Message } from "./message.ts";
import type { SendAsyncOptions } from "./sending.ts";
import { readableFrom, writableTo } from "./streams.ts";

export type ReceiveOptions = {
  readonly signal?: AbortSignal | undefined;
};

// What is received without letting the event loop do anything else.
const MESSAGES_A_TURN = 256;
const PIECES_A_TURN = 4096;

export class Channel extends BlockingChannel implements AsyncIterable<Message> {
  #bell: AsyncDoorbell | undefined;
  #sending: Promise<boolean> | undefined;
  #readable: ReadableStream<Uint8Array<ArrayBuffer>> | undefined;
  #writable: WritableStream<Uint8Array> | undefined;
  /** Since the last turn: messages, and looks for one that came while we asked to be woken for it. */
  #received = 0;
  #piecesAtTurn = 0;

  /** Sends one message, in the order of the calls. Resolves when it is in the ring; until then `bytes` must not change.
   *  Meanwhile the blocking sends throw, because they could come between the records of this one.
   *  @returns true; false when it was dropped, which only happens with `whenFull: "drop-new"`
   *  @throws the signal's reason: nothing was sent, or, of a message of several records, the channel is closed */
  async sendAsync(bytes: Uint8Array, options: SendAsyncOptions = {}): Promise<boolean> {
    checkMessageBytes(lengthOf(bytes));
    refuseTimeout(options);
    return await this.#inOrder(() => this.#sendPieces(bytes, options, false), options.signal);
  }

  /** Writes bytes without boundaries. Resolves when all are in the ring.
   *  @throws the signal's reason; some of them may be sent then */
  async writeBytesAsync(chunk: Uint8Array, options: ReceiveOptions = {}): Promise<void> {
    lengthOf(chunk);
    refuseTimeout(options);
    await this.#inOrder(() => this.#sendPieces(chunk, options, true), options.signal);
  }

  /** @returns undefined at the end  @throws the signal's reason, and nothing is lost; AbortSignal.timeout() makes timeouts */
  async receiveAsync(options: ReceiveOptions = {}): Promise<Message | undefined> {
    return this.#awaitResult(() => this.tryReceive(), options.signal);
  }

  /** @returns between 1 and `max` bytes, undefined at the end  @throws as receiveAsync() */
  async readBytesAsync(max: number, options: ReceiveOptions = {}): Promise<Uint8Array<ArrayBuffer> | undefined> {
    return this.#awaitResult(() => this.tryReadBytes(max), options.signal);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Message, void, undefined> {
    for (;;) {
      const message = await this.receiveAsync();
      if (message === undefined) return;
      yield message;
    }
  }

  /** The peer's bytes as a stream, always the same one; one that was asked for before close() then fails. */
  get readable(): ReadableStream<Uint8Array<ArrayBuffer>> {
    this.checkOpen();
    if (this.direction === "send") this.refuseToReceive();
    this.#readable ??= readableFrom(this);
    return this.#readable;
  }

  /** Our bytes as a stream, always the same one. */
  get writable(): WritableStream<Uint8Array> {
    this.checkOpen();
    if (this.direction === "receive") this.refuseToSend();
    this.#writable ??= writableTo(this);
    return this.#writable;
  }

  override drainDoorbell(): "open" | "hangup" {
    const state = super.drainDoorbell();
    this.tookDoorbell();
    return state;
  }

  override end(): void {
    super.end();
    this.#bell?.notify(); // a send that waits for room learns it
  }

  protected override tookDoorbell(): void {
    this.#bell?.notify();
  }

  protected override shut(reason: Error): void {
    super.shut(reason);
    this.#bell?.close();
  }

  async #inOrder(action: () => Promise<boolean>, signal?: AbortSignal): Promise<boolean> {
    const before = this.#sending ?? Promise.resolve(true);
    let isWaiting = true;
    const begin = (): Promise<boolean> => {
      isWaiting = false;
      return action();
    };
    const mine = before.then(begin, begin);
    this.#sending = mine;
    this.sendingAsync = true;
    const done = (): void => {
      if (this.#sending !== mine) return;
      this.#sending = undefined;
      this.sendingAsync = false;
    };
    mine.then(done, done);
    return signal === undefined ? await mine : await untilAborted(mine, signal, () => isWaiting);
  }

  async #sendPieces(bytes: Uint8Array, { type = 0, signal }: SendAsyncOptions, separate: boolean): Promise<boolean> {
    const piece = separate || bytes.length > this.producer.maxPayload ? this.pieceBytes : bytes.length;
    for (let at = 0; at === 0 || at < bytes.length; at += piece) {
      const part = bytes.subarray(at, at + piece);
      const first = separate || at === 0 ? FIRST : 0;
      const last = separate || at + piece >= bytes.length ? LAST : 0;
      this.#checkMayGoOn();
      if (signal?.aborted === true) this.#giveUp(signal, at > 0 && !separate);
      while (!this.producer.put(part, type, first | last)) {
        if (this.dropsNew && !separate && at === 0) return this.dropped();
        this.noRoom();
        await this.#awaitSpace(part.length, signal, at > 0 && !separate);
      }
      this.publish();
      if (part.length === 0) return true;
    }
    return true;
  }

  /** @param isHalfSent  a part of the message is in the ring */
  async #awaitSpace(length: number, signal: AbortSignal | undefined, isHalfSent: boolean): Promise<void> {
    try {
      if (this.armSend(length)) await this.#ring(signal);
    } catch (error) {
      if (signal?.aborted !== true) throw error;
    }
    this.#checkMayGoOn();
    if (signal?.aborted === true) this.#giveUp(signal, isHalfSent);
  }

  #giveUp(signal: AbortSignal, isHalfSent: boolean): never {
    if (isHalfSent) this.abandonMessage(signal.reason);
    throw signal.reason;
  }

  #checkMayGoOn(): void {
    if (this.ending) this.refuseToSend();
    this.checkPeer();
  }

  async #awaitResult<T>(attempt: () => T | undefined, signal: AbortSignal | undefined): Promise<T | undefined> {
    for (;;) {
      signal?.throwIfAborted();
      const result = attempt();
      if (result !== undefined) {
        if (this.#turnIsDue()) await this.#turn();
        return result;
      }
      if (this.ended) return undefined;
      if (this.armReceive()) await this.#ring(signal);
      else if (this.#turnIsDue()) await this.#turn();
    }
  }

  #turnIsDue(): boolean {
    return ++this.#received >= MESSAGES_A_TURN || this.pieces - this.#piecesAtTurn >= PIECES_A_TURN;
  }

  async #turn(): Promise<void> {
    this.#received = 0;
    this.#piecesAtTurn = this.pieces;
    await new Promise((resolve) => setImmediate(resolve));
  }

  async #ring(signal: AbortSignal | undefined): Promise<void> {
    this.#bell ??= new AsyncDoorbell(this.doorbell.fd, { restMs: () => this.noteWake() });
    this.awaiting = true;
    await this.#bell.wait(signal);
    this.awaiting = this.#bell.waiting;
    if (this.#bell.hungUp && this.refusal === undefined) this.doorbell.drain();
  }
}

function refuseTimeout(options: object): void {
  if ("timeoutMs" in options)
    throw new TypeError("Cannot use timeoutMs here: signal: AbortSignal.timeout() is a limit");
}

/** What `promise` becomes, or the signal's reason if it comes while nothing has been done for the promise yet. */
async function untilAborted<T>(promise: Promise<T>, signal: AbortSignal, isWaiting: () => boolean): Promise<T> {
  const { promise: aborted, reject } = withReject();
  const abort = (): void => {
    if (isWaiting()) reject(signal.reason);
  };
  signal.addEventListener("abort", abort);
  if (signal.aborted) abort();
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

function withReject(): { readonly promise: Promise<never>; readonly reject: (reason: unknown) => void } {
  let reject: (reason: unknown) => void = () => undefined;
  const promise = new Promise<never>((_, refuse) => {
    reject = refuse;
  });
  return { promise, reject };
}

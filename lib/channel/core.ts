/**
 * What both directions of one end of a channel share: two mappings, a producer, a consumer, a doorbell, and whether they
 * may still be used.
 *
 * Invariant: after close() or after the peer broke the rules no ring memory is touched any more, and every method
 * throws the reason.
 */
import { type BorrowedFd, type Mapping, type OwnedFd, RecordPath } from "../../ffi/mod.ts";
import { ClosedError, FailureError, ProtocolError } from "../errors.ts";
import { RingConsumer } from "../ring/consumer.ts";
import { MAX_MESSAGE_BYTES, NO_CAPACITY, type RingMemory, type RingSide, ringMemory } from "../ring/layout.ts";
import { RingProducer } from "../ring/producer.ts";
import { describeViolation, type Violation } from "../ring/violation.ts";
import { SocketDoorbell } from "./socket-doorbell.ts";
import { WakeLimit } from "./wake-limit.ts";

/** `strict` copies out before anything is looked at; `trusted` may hand out views into the ring. */
export type Trust = "strict" | "trusted";

/** What becomes of a message for which the ring has no room: it waits, or it is dropped. Streams always wait. */
export type WhenFull = "block" | "drop-new";
/** What becomes of messages when the receiver is so far behind that the ring is three quarters full: they stay, or the
 *  oldest are dropped until a quarter is left. */
export type WhenBehind = "keep" | "drop-old";

/** How one's own end of a channel works; the other side needs not know. */
export type EndOptions = {
  readonly trust?: Trust;
  /** How long a blocking call looks before it sleeps, at most; microseconds, 0 for never. */
  readonly spinUs?: number;
  /** Take the memory of our whole ring at once, so that no send has to wait for a page; false by default. Where the kernel
   *  cannot (before 5.14) it is taken as it is used. */
  readonly prefault?: boolean;
  /** Take the memory of our whole ring at once, in pages of 2 MiB, from a capacity of 2 MiB on; false by default. Where the
   *  kernel cannot (before 6.1), or has no such pieces left, it is as without; `hugePageBytes` and `inspect` tell. */
  readonly hugePages?: boolean;
  /** Let machine code do the common case, where there is some (Bun, x86-64); true by default. Either way works on the same
   *  words and does the same. */
  readonly machineCode?: boolean;
  /** Longest message that is accepted, its fragments together. */
  readonly maxMessageBytes?: number;
  /** Most bytes that the other side's ring may have, 64 MiB unless given: pages that it has not touched are made, and charged
   *  to us, when we read them. A channel with a larger one is refused before any of it is mapped. */
  readonly maxPeerCapacity?: number;
  /** Of what we send: "block" unless given. What is dropped is counted, and `inspect` shows it. */
  readonly whenFull?: WhenFull | undefined;
  /** Of what we receive: "keep" unless given. Only the receiver can drop old messages: the ring's head is its own. */
  readonly whenBehind?: WhenBehind | undefined;
};

export type ChannelOptions = EndOptions & {
  /** Who is at the other end, as the broker was told by the kernel. */
  readonly peerPid?: number;
  readonly peerUid?: number;
  /** Called once, when this end closes for whatever reason. */
  readonly onClose?: () => void;
};

export type ChannelParts = {
  readonly channelId: number;
  readonly side: RingSide;
  readonly own: Mapping;
  readonly ownCapacity: number;
  /** Bytes of our own ring that lie in huge pages. */
  readonly hugePageBytes?: number;
  readonly peer: Mapping;
  readonly peerCapacity: number;
  readonly doorbell: OwnedFd;
};

/** What this end can do; one that only receives has no ring, and one that only sends has none to read. */
export type Direction = "both" | "send" | "receive";

export class ChannelCore implements Disposable {
  readonly channelId: number;
  readonly side: RingSide;
  readonly trust: Trust;
  readonly peerPid: number | undefined;
  readonly peerUid: number | undefined;
  /** Bytes of our own ring that lie in huge pages. */
  readonly hugePageBytes: number;
  readonly direction: Direction;
  protected readonly producer: RingProducer;
  protected readonly consumer: RingConsumer;
  protected readonly doorbell: SocketDoorbell;
  protected readonly ownBytes: Uint8Array;
  protected readonly maxMessageBytes: number;
  protected readonly dropsNew: boolean;
  protected readonly dropsOld: boolean;
  /** The reason why nothing works any more. */
  protected refusal: Error | undefined;
  readonly #own: Mapping;
  readonly #peer: Mapping;
  readonly #peerBytes: Uint8Array;
  readonly #onClose: (() => void) | undefined;
  readonly #wakes: WakeLimit = new WakeLimit();
  #violation: Violation | undefined;
  #restMs = 0;
  #isShown = false;

  /** Takes the mappings and the doorbell. */
  constructor(parts: ChannelParts, options: ChannelOptions = {}) {
    this.channelId = parts.channelId;
    this.side = parts.side;
    this.direction = directionOf(parts);
    this.trust = options.trust ?? "strict";
    this.peerPid = options.peerPid;
    this.peerUid = options.peerUid;
    this.hugePageBytes = parts.hugePageBytes ?? 0;
    this.maxMessageBytes = Math.min(options.maxMessageBytes ?? MAX_MESSAGE_BYTES, MAX_MESSAGE_BYTES);
    this.dropsNew = options.whenFull === "drop-new";
    this.dropsOld = options.whenBehind === "drop-old";
    this.#onClose = options.onClose;
    this.#own = parts.own;
    this.#peer = parts.peer;
    const own: RingMemory = ringMemory(parts.own.buffer);
    const peer: RingMemory = ringMemory(parts.peer.buffer);
    this.ownBytes = own.bytes;
    this.#peerBytes = peer.bytes;
    const doorbell = new SocketDoorbell(parts.doorbell, () => this.blockSending());
    this.doorbell = doorbell;
    const open = () => RecordPath.open(own.bytes, peer.bytes);
    const openFastPath = options.machineCode === false ? undefined : open;
    const { ownCapacity, peerCapacity } = parts;
    const { maxMessageBytes } = this;
    // Each written out: copying what they have in common takes longer than making both.
    this.producer = new RingProducer({ own, peer, doorbell, openFastPath, capacity: ownCapacity });
    this.consumer = new RingConsumer({ own, peer, doorbell, openFastPath, capacity: peerCapacity, maxMessageBytes });
    this.consumer.watched = this.dropsOld;
  }

  /** To watch for reading in an event loop of one's own; every event means drainDoorbell(). */
  get doorbellFd(): BorrowedFd {
    this.checkOpen();
    return this.doorbell.fd;
  }

  get closed(): boolean {
    return this.refusal !== undefined;
  }

  /** What the peer did wrong, if it did. */
  get violation(): Violation | undefined {
    return this.#violation;
  }

  /** For a reactor: takes the bytes that rang. After a hang-up what was published can still be received. */
  drainDoorbell(): "open" | "hangup" {
    this.checkOpen();
    this.noteWake();
    return this.doorbell.drain();
  }

  /** For a reactor, after drainDoorbell(): milliseconds for which to leave the doorbell alone, because the peer rings and rings
   *  for nothing; 0 for every honest one. */
  get doorbellRestMs(): number {
    return this.#restMs;
  }

  /** To be called for each wake-up by the doorbell. @returns doorbellRestMs */
  protected noteWake(): number {
    this.#restMs = this.#wakes.woken(this.producer.progress + this.consumer.progress);
    return this.#restMs;
  }

  /** Ends our direction, hangs up, unmaps. Views into the ring become empty. Safe to call twice. */
  close(): void {
    if (this.refusal !== undefined) return;
    this.#leave(new ClosedError(`Cannot use channel "${this.channelId}": it was closed`));
  }

  /** Ends everything with a message half sent, which cannot be taken back: for the peer we have vanished. */
  protected abandonMessage(reason: unknown): never {
    const error = new ClosedError(
      `Cannot use channel "${this.channelId}": a message was given up when it was half sent`,
    );
    this.#leave(error);
    throw reason;
  }

  #leave(reason: Error): void {
    if (!this.#isTakenAway()) {
      this.producer.finish();
      this.consumer.leave();
    }
    this.shut(reason);
  }

  /** The caller has transferred the memory of a view: nothing can be read or written there, and the hang-up has to do. */
  #isTakenAway(): boolean {
    return this.ownBytes.length === 0 || this.#peerBytes.length === 0;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  protected shut(reason: Error): void {
    this.refusal = reason;
    this.blockSending();
    this.consumer.watched = true;
    this.producer.retire();
    this.consumer.retire();
    this.#own.closeWith(this.#peer, this.#isShown);
    this.doorbell.close();
    this.#onClose?.();
  }

  /** For every view of a ring that leaves the channel: from then on another thread may be at that memory. */
  protected show(view: Uint8Array): Uint8Array {
    this.#isShown = true;
    return view;
  }

  protected checkOpen(): void {
    if (this.refusal !== undefined) throw this.refusal;
  }

  /** Keeps the producer from sending, or lets it again, as things stand. */
  protected blockSending(): void {
    this.producer.blocked = this.refusal !== undefined || this.doorbell.hungUp || this.producer.peerGone;
  }

  protected refuseToReceive(): never {
    throw new FailureError(
      "one-way",
      `Cannot receive on channel "${this.channelId}": it is one-way, this end only sends`,
    );
  }

  /** The peer wrote what no honest peer writes: ends the channel. */
  protected break(violation: Violation | undefined): never {
    if (violation === undefined) throw new TypeError("Cannot break a channel without a violation");
    if (this.#isTakenAway()) {
      this.shut(
        new TypeError(`Cannot use channel "${this.channelId}": the memory of one of its views was transferred`),
      );
      this.checkOpen();
    }
    this.#violation = violation;
    const error = new ProtocolError(`Cannot use channel "${this.channelId}": ${describeViolation(violation)}`);
    this.shut(error);
    throw error;
  }
}

function directionOf({ ownCapacity, peerCapacity }: ChannelParts): Direction {
  if (ownCapacity === NO_CAPACITY) return "receive";
  return peerCapacity === NO_CAPACITY ? "send" : "both";
}

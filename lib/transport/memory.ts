/** A pair of transports inside one process, for tests: same contract as unix.ts, and it splits and blocks on demand. */
import type { BorrowedFd, OwnedFd } from "../../ffi/mod.ts";
import { OutputQueue } from "./output-queue.ts";
import { closeAll, DEFAULT_MAX_QUEUED_BYTES, type Incoming, type Transport } from "./transport.ts";

export type MemoryPairOptions = {
  readonly maxQueuedBytes?: number;
  /** The most that one receive() returns. */
  readonly maxReceiveBytes?: number;
  /** The most that one transfer inside flush() takes: short writes. */
  readonly maxSendBytes?: number;
  /** Bytes on their way before flush() is blocked. */
  readonly capacityBytes?: number;
};

type Segment = { bytes: Uint8Array; fds: OwnedFd[] };

/** One direction: what was sent and not received yet. */
class Pipe {
  readonly segments: Segment[] = [];
  bytes = 0;
  /** The sender has closed. */
  ended = false;
  /** The receiver has closed. */
  broken = false;

  discard(): void {
    for (const { fds } of this.segments.splice(0)) closeAll(fds);
    this.bytes = 0;
  }
}

export class MemoryTransport implements Transport {
  readonly starved = false;
  readonly #options: Required<MemoryPairOptions>;
  readonly #output: OutputQueue;
  readonly #incoming: Pipe;
  readonly #outgoing: Pipe;
  #closed = false;

  constructor(incoming: Pipe, outgoing: Pipe, options: Required<MemoryPairOptions>) {
    this.#incoming = incoming;
    this.#outgoing = outgoing;
    this.#options = options;
    this.#output = new OutputQueue(options);
  }

  get fd(): BorrowedFd {
    throw new Error("A memory transport has no descriptor to watch");
  }

  get queuedFds(): number {
    return this.#output.fdCount;
  }

  unreadFds(): number {
    return this.queuedFds + this.#outgoing.segments.reduce((sum, { fds }) => sum + fds.length, 0);
  }

  get queuedBytes(): number {
    return this.#output.length;
  }

  receive(): Incoming | "end" | null {
    if (this.#closed) throw new Error("Cannot receive: the memory transport is closed");
    const segment = this.#incoming.segments[0];
    if (segment === undefined) return this.#incoming.ended ? "end" : null;
    const bytes = segment.bytes.slice(0, this.#options.maxReceiveBytes);
    const fds = segment.fds.splice(0);
    segment.bytes = segment.bytes.subarray(bytes.length);
    this.#incoming.bytes -= bytes.length;
    if (segment.bytes.length === 0) this.#incoming.segments.shift();
    return { bytes, fds };
  }

  queue(bytes: Uint8Array, fds: readonly OwnedFd[]): void {
    if (this.#closed || this.#outgoing.broken) return closeAll(fds);
    this.#output.push(bytes, fds);
  }

  flush(): "done" | "blocked" {
    if (this.#outgoing.broken) this.#output.clear();
    while (this.#output.length > 0) {
      const room = this.#options.capacityBytes - this.#outgoing.bytes;
      if (room <= 0) return "blocked";
      const bytes = this.#output.next(Math.min(room, this.#options.maxSendBytes)).bytes.slice();
      this.#outgoing.segments.push({ bytes, fds: [...this.#output.sent(bytes.length)] });
      this.#outgoing.bytes += bytes.length;
    }
    return "done";
  }

  close(): void {
    this.#closed = true;
    this.#output.clear();
    this.#outgoing.ended = true;
    this.#incoming.broken = true;
    this.#incoming.discard();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Two connected transports. */
export function memoryPair(options: MemoryPairOptions = {}): [MemoryTransport, MemoryTransport] {
  const complete: Required<MemoryPairOptions> = {
    maxQueuedBytes: options.maxQueuedBytes ?? DEFAULT_MAX_QUEUED_BYTES,
    maxReceiveBytes: options.maxReceiveBytes ?? 1 << 16,
    maxSendBytes: options.maxSendBytes ?? 1 << 16,
    capacityBytes: options.capacityBytes ?? 1 << 18,
  };
  const there = new Pipe();
  const back = new Pipe();
  return [new MemoryTransport(there, back, complete), new MemoryTransport(back, there, complete)];
}

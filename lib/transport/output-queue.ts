/** Bytes that wait to be sent, with the descriptors that go with the byte at a certain place. Owns the descriptors. */
import type { OwnedFd } from "../../ffi/mod.ts";
import { ByteQueue } from "../util/byte-queue.ts";
import { checkQueued, closeAll, DEFAULT_MAX_QUEUED_BYTES, MAX_FDS_PER_QUEUE } from "./transport.ts";

type Attachment = { readonly position: number; readonly fds: readonly OwnedFd[] };

/** What one sendmsg(2) may take: its descriptors go with its first byte. */
export type Chunk = { readonly bytes: Uint8Array<ArrayBuffer>; readonly fds: readonly OwnedFd[] };

const NONE: readonly OwnedFd[] = [];

export type QueueLimits = {
  /** Asked for with each message: it may be another one later. */
  readonly maxQueuedBytes?: number;
};

export class OutputQueue {
  readonly #limits: QueueLimits;
  readonly #bytes: ByteQueue = new ByteQueue();
  #attachments: Attachment[] = [];
  /** Stream position of the first byte in the queue. */
  #position = 0;
  #fdCount = 0;
  /** Attachments that the last next() gave out, and what is in them. */
  #attached = 0;
  #given: readonly OwnedFd[] = NONE;

  constructor(limits: QueueLimits) {
    this.#limits = limits;
  }

  get length(): number {
    return this.#bytes.length;
  }

  get fdCount(): number {
    return this.#fdCount;
  }

  /** Takes `fds`. @throws OverflowError, RangeError, with `fds` closed */
  push(bytes: Uint8Array, fds: readonly OwnedFd[]): void {
    checkQueued(this.length, bytes, fds, this.#limits.maxQueuedBytes ?? DEFAULT_MAX_QUEUED_BYTES);
    if (fds.length > 0) this.#attachments.push({ position: this.#position + this.length, fds });
    this.#fdCount += fds.length;
    this.#bytes.push(bytes);
  }

  /** The next bytes, with the descriptors that belong to them. A descriptor may come early, never late, so as many bytes go
   *  at once as their descriptors leave room for. */
  next(maxBytes: number): Chunk {
    this.#attached = 0;
    if (this.#attachments.length === 0) return { bytes: this.#bytes.peek(maxBytes), fds: NONE };
    const fds: OwnedFd[] = [];
    let end = this.#position + maxBytes;
    for (const { position, fds: more } of this.#attachments) {
      if (position >= end) break;
      if (fds.length + more.length > MAX_FDS_PER_QUEUE) {
        end = position;
        break;
      }
      for (const fd of more) fds.push(fd);
      this.#attached += 1;
    }
    this.#given = fds;
    return { bytes: this.#bytes.peek(end - this.#position), fds };
  }

  /** `count` bytes of the last next() were sent, and with the first of them all its descriptors. */
  sent(count: number): readonly OwnedFd[] {
    if (count === 0) return [];
    this.#bytes.drop(count);
    this.#position += count;
    if (this.#attached === 0) return NONE;
    const fds = this.#given;
    this.#given = NONE;
    if (this.#attached === this.#attachments.length) this.#attachments = [];
    else this.#attachments.splice(0, this.#attached);
    this.#attached = 0;
    this.#fdCount -= fds.length;
    return fds;
  }

  clear(): void {
    for (const { fds } of this.#attachments) closeAll(fds);
    this.#attachments = [];
    this.#attached = 0;
    this.#given = NONE;
    this.#fdCount = 0;
    this.#position += this.length;
    this.#bytes.clear();
  }
}

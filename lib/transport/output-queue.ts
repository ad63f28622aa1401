/** Bytes that wait to be sent, with the descriptors that go with the byte at a certain place. Owns the descriptors. */
import type { OwnedFd } from "../../ffi/mod.ts";
import { ByteQueue } from "../util/byte-queue.ts";
import { checkQueued, closeAll } from "./transport.ts";

type Attachment = { readonly position: number; readonly fds: readonly OwnedFd[] };

/** What one sendmsg(2) may take: its descriptors belong to its first byte. */
export type Chunk = { readonly bytes: Uint8Array<ArrayBuffer>; readonly fds: readonly OwnedFd[] };

export class OutputQueue {
  readonly #limitBytes: number;
  readonly #bytes: ByteQueue = new ByteQueue();
  #attachments: Attachment[] = [];
  /** Stream position of the first byte in the queue. */
  #position = 0;
  #fdCount = 0;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  get length(): number {
    return this.#bytes.length;
  }

  get fdCount(): number {
    return this.#fdCount;
  }

  /** Takes `fds`. @throws OverflowError, RangeError, with `fds` closed */
  push(bytes: Uint8Array, fds: readonly OwnedFd[]): void {
    checkQueued(this.length, bytes, fds, this.#limitBytes);
    if (fds.length > 0) this.#attachments.push({ position: this.#position + this.length, fds });
    this.#fdCount += fds.length;
    this.#bytes.push(bytes);
  }

  /** The next bytes, up to the place where other descriptors belong. */
  next(maxBytes: number): Chunk {
    const [first, second] = this.#attachments;
    const isAtFront = first?.position === this.#position;
    const following = isAtFront ? second : first;
    const untilNext = following === undefined ? maxBytes : following.position - this.#position;
    return { bytes: this.#bytes.peek(Math.min(maxBytes, untilNext)), fds: isAtFront ? first.fds : [] };
  }

  /** `count` bytes of the last next() were sent, and with the first of them its descriptors. */
  sent(count: number): readonly OwnedFd[] {
    if (count === 0) return [];
    const isAtFront = this.#attachments[0]?.position === this.#position;
    this.#bytes.drop(count);
    this.#position += count;
    const fds = isAtFront ? (this.#attachments.shift()?.fds ?? []) : [];
    this.#fdCount -= fds.length;
    return fds;
  }

  clear(): void {
    for (const { fds } of this.#attachments) closeAll(fds);
    this.#attachments = [];
    this.#fdCount = 0;
    this.#position += this.length;
    this.#bytes.clear();
  }
}

/** Growable byte FIFO over one buffer. Pure; hands out views that are good until the next push() or drop(). */
import { copyBytes } from "./copy-bytes.ts";

const FIRST_BYTES = 4096;
/** An empty queue keeps no more than this, so that one large burst does not stay in memory. */
const KEPT_BYTES = 1 << 16;

export class ByteQueue {
  #buffer: Uint8Array<ArrayBuffer> = new Uint8Array(0);
  #head = 0;
  #tail = 0;
  /** The last view of the buffer from its beginning: mostly what is sent comes alone, and is as long as what came before. */
  #front: Uint8Array<ArrayBuffer> = this.#buffer;

  get length(): number {
    return this.#tail - this.#head;
  }

  /** Appends a copy of `bytes`. */
  push(bytes: Uint8Array): void {
    this.#makeRoom(bytes.length);
    copyBytes(bytes, this.#buffer, this.#tail);
    this.#tail += bytes.length;
  }

  /** A view of the oldest `maxBytes` bytes, fewer when there are not as many. */
  peek(maxBytes: number = this.length): Uint8Array<ArrayBuffer> {
    const end = Math.min(this.#tail, this.#head + maxBytes);
    if (this.#head !== 0) return this.#buffer.subarray(this.#head, end);
    if (this.#front.length !== end) this.#front = this.#buffer.subarray(0, end);
    return this.#front;
  }

  #replace(buffer: Uint8Array<ArrayBuffer>): void {
    this.#buffer = buffer;
    this.#front = buffer;
  }

  /** Forgets the oldest `count` bytes. @throws RangeError when there are not as many */
  drop(count: number): void {
    if (count > this.length) throw new RangeError(`Cannot drop ${count} bytes: the queue holds ${this.length}`);
    this.#head += count;
    if (this.#head === this.#tail) this.#rewind();
  }

  clear(): void {
    this.drop(this.length);
  }

  #rewind(): void {
    this.#head = 0;
    this.#tail = 0;
    if (this.#buffer.length > KEPT_BYTES) this.#replace(new Uint8Array(0));
  }

  #makeRoom(count: number): void {
    if (this.#tail + count <= this.#buffer.length) return;
    const { length } = this;
    // Moving is only worth it when it frees half the buffer: else a full queue would move once per push.
    if (length + count <= this.#buffer.length / 2) this.#buffer.copyWithin(0, this.#head, this.#tail);
    else {
      const larger = new Uint8Array(roomFor(length + count, this.#buffer.length));
      larger.set(this.peek());
      this.#replace(larger);
    }
    this.#head = 0;
    this.#tail = length;
  }
}

/** Twice as much, but on the way there no more than may be kept: what is just beyond is made anew for every burst. */
function roomFor(bytes: number, hadBytes: number): number {
  const room = Math.max(FIRST_BYTES, 2 * bytes);
  return bytes <= KEPT_BYTES && hadBytes < KEPT_BYTES ? Math.min(room, KEPT_BYTES) : room;
}

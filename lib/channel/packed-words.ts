/** A caller's packed messages as 32-bit words. Making a view costs more than sending a message, so the last one is kept. */
import { lengthOf } from "../ring/bytes.ts";
import { MAX_MESSAGE_BYTES } from "../ring/layout.ts";
import { checkCount } from "../util/count.ts";

const NO_BYTES: Uint8Array = new Uint8Array(0); // which no caller has

export class PackedWords {
  #bytes: Uint8Array = NO_BYTES;
  #words: Int32Array = new Int32Array(0);
  #length = -1;

  /** @throws RangeError when `bytes` cannot be read as messages of `messageBytes`, TypeError when they are no such thing */
  of(bytes: Uint8Array, messageBytes: number): Int32Array {
    if (bytes !== this.#bytes || bytes.length !== this.#length) this.#look(bytes);
    checkCount(messageBytes, MAX_MESSAGE_BYTES, "bytes of a packed message");
    if (messageBytes < 4 || (messageBytes & 3) !== 0 || this.#length % messageBytes !== 0) {
      throw new RangeError(
        `Cannot pack ${this.#length} bytes in messages of "${messageBytes}": a multiple of 4 that divides them is needed`,
      );
    }
    return this.#words;
  }

  #look(bytes: Uint8Array): void {
    const length = lengthOf(bytes);
    if ((bytes.byteOffset & 3) !== 0) {
      throw new RangeError(
        `Cannot use packed messages at byte "${bytes.byteOffset}" of their buffer: a multiple of 4 is needed`,
      );
    }
    this.#words = new Int32Array(bytes.buffer, bytes.byteOffset, length >> 2);
    this.#bytes = bytes;
    this.#length = length;
  }
}

/** A caller's packed messages as 32-bit words. Making a view costs more than sending a message, so the last one is kept. */
export class PackedWords {
  #bytes: Uint8Array | undefined;
  #words: Int32Array = new Int32Array(0);
  #length = -1;

  /** @throws RangeError when `bytes` cannot be read as messages of `messageBytes` */
  of(bytes: Uint8Array, messageBytes: number): Int32Array {
    if (bytes !== this.#bytes || bytes.length !== this.#length) this.#look(bytes);
    if (messageBytes < 4 || (messageBytes & 3) !== 0 || bytes.length % messageBytes !== 0) {
      throw new RangeError(
        `Cannot pack ${bytes.length} bytes in messages of "${messageBytes}": a multiple of 4 that divides them is needed`,
      );
    }
    return this.#words;
  }

  #look(bytes: Uint8Array): void {
    if ((bytes.byteOffset & 3) !== 0) {
      throw new RangeError(
        `Cannot use packed messages at byte "${bytes.byteOffset}" of their buffer: a multiple of 4 is needed`,
      );
    }
    this.#words = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length >> 2);
    this.#bytes = bytes;
    this.#length = bytes.length;
  }
}

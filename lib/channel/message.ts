/** Messages and what a large one is gathered from. */
export type Message = {
  /** 0 … 65535, as the sender gave it. */
  readonly type: number;
  /** A copy that belongs to the receiver. */
  readonly data: Uint8Array<ArrayBuffer>;
};

/** Collects the records of one message in a buffer that grows: however short they are, they take no more than twice their bytes. */
export class Assembly {
  readonly #type: number;
  #data: Uint8Array<ArrayBuffer> = new Uint8Array(FIRST_BYTES);
  #bytes = 0;

  constructor(type: number) {
    this.#type = type;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** @param part  copied */
  add(part: Uint8Array): void {
    const bytes = this.#bytes + part.length;
    if (bytes > this.#data.length) this.#grow(bytes);
    this.#data.set(part, this.#bytes);
    this.#bytes = bytes;
  }

  finish(): Message {
    return { type: this.#type, data: this.#data.slice(0, this.#bytes) };
  }

  #grow(bytes: number): void {
    const grown = new Uint8Array(Math.max(bytes, 2 * this.#data.length));
    grown.set(this.#data.subarray(0, this.#bytes));
    this.#data = grown;
  }
}

const FIRST_BYTES = 4096;

/** Messages and what a large one is gathered from. */
export type Message = {
  /** 0 … 65535, as the sender gave it. */
  readonly type: number;
  /** A copy that belongs to the receiver. */
  readonly data: Uint8Array<ArrayBuffer>;
};

/** Collects the records of one message. */
export class Assembly {
  readonly #type: number;
  #parts: Uint8Array<ArrayBuffer>[] = [];
  #bytes = 0;

  constructor(type: number) {
    this.#type = type;
  }

  get bytes(): number {
    return this.#bytes;
  }

  add(part: Uint8Array<ArrayBuffer>): void {
    this.#parts.push(part);
    this.#bytes += part.length;
  }

  finish(): Message {
    const data = new Uint8Array(this.#bytes);
    let at = 0;
    for (const part of this.#parts) {
      data.set(part, at);
      at += part.length;
    }
    return { type: this.#type, data };
  }
}

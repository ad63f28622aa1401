/** A 64-bit total in two words of our own control page: plain stores, because only listings read it. */
export class Counter {
  readonly #words: Int32Array;
  readonly #index: number;
  #low: number;

  constructor(words: Int32Array, index: number) {
    this.#words = words;
    this.#index = index;
    this.#low = words[index] ?? 0;
  }

  /** @param amount  0 <= amount < 2^31 */
  add(amount: number): void {
    const low = (this.#low + amount) | 0;
    if (low >= 0 && this.#low < 0) carry(this.#words, this.#index);
    this.#low = low;
    this.#words[this.#index] = low;
  }
}

/** Adds one to the upper half of the total at `index`, whose lower half went over. */
export function carry(words: Int32Array, index: number): void {
  words[index + 1] = ((words[index + 1] ?? 0) + 1) | 0;
}

/** The total at `index` of somebody's page, exact up to 2^53. */
export function readCounter(words: Int32Array, index: number): number {
  return ((words[index + 1] ?? 0) >>> 0) * 2 ** 32 + ((words[index] ?? 0) >>> 0);
}

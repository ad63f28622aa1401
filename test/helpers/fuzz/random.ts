/** What a fuzzer draws from: numbers that are the same for the same seed, and values that are worth a try. */

/** xorshift: the same numbers for the same seed on every machine. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = (seed * 2654435761 + 1) >>> 0 || 1;
  }

  below(limit: number): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x >>> 0;
    return this.#state % limit;
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)] as T; // never called with an empty one
  }

  chance(outOf: number): boolean {
    return this.below(outOf) === 0;
  }
}

export const NAMES: readonly string[] = [
  "a",
  "b",
  "web/x",
  "web/*",
  "tcp:127.0.0.1:80",
  "",
  "a b",
  "x".repeat(129),
  "ü",
  "*",
  "127.0.0.1",
  "::1",
  "0.0.0.0",
  "/run/x",
  "shop",
  "1",
];
export const NUMBERS: readonly number[] = [
  0,
  1,
  2,
  3,
  4,
  7,
  63,
  80,
  255,
  4096,
  8192,
  65_535,
  65_536,
  1 << 20,
  0x7fffffff,
  0x80000000,
  0xffffffff,
];

/** What an argument of that name may be; "a" and "b" so often that peers find one another. */
export const SENSIBLE: Readonly<Record<string, readonly (string | number)[]>> = {
  name: ["a", "a", "a", "b", "web/x"],
  capacity: [0, 0, 4096, 8192],
  directions: [1, 2, 3],
  rights: [1, 2, 4, 7, 16, 32, 64, 127, 128, 255],
  flags: [0, 1, 2, 3],
  address: ["127.0.0.1", "127.0.0.1", "::1", "0.0.0.0"],
  port: [80, 8080],
  path: ["/run/x"],
  pid: [process.pid],
  reason: ["", "no such listener"],
  selector: ["", "a", "1"],
  engine: ["shop"],
  app: ["shop", "1"],
  instance: ["1", "2"],
};

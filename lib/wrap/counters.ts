/**
 * A wrapped listener's numbers in a memfd that the broker reads without asking: four 64-bit little-endian
 * counters: connections accepted over the Unix socket, over TCP, trapped calls answered, and nanoseconds that took.
 */
import { addSeals, constants, ftruncate, type Mapping, mapShared, memfdCreate, type OwnedFd } from "../../ffi/mod.ts";

const SIZE_BYTES = 4096;
const INDEX = { unix: 0, tcp: 1, traps: 2, trapNs: 3 } as const;

export class Counters implements Disposable {
  readonly fd: OwnedFd;
  readonly #mapping: Mapping;
  readonly #words: Uint32Array;

  constructor(name: string) {
    this.fd = memfdCreate(name);
    try {
      ftruncate(this.fd, SIZE_BYTES);
      addSeals(this.fd, constants.F_SEAL_SHRINK | constants.F_SEAL_GROW);
      this.#mapping = mapShared(this.fd, SIZE_BYTES, "read-write");
    } catch (error) {
      this.fd.close();
      throw error;
    }
    this.#words = new Uint32Array(this.#mapping.buffer, 0, 8);
  }

  /** Machine code of our thread adds to them as well (shortcut/shortcut.ts). */
  add(name: keyof typeof INDEX, amount = 1): void {
    if (this.fd.closed) return; // the listener has ended while a call was answered
    const at = INDEX[name] * 2;
    // Exact to 2^53, and without a BigInt for each call.
    const value = (this.#words[at] ?? 0) + (this.#words[at + 1] ?? 0) * 2 ** 32 + amount;
    this.#words[at] = value % 2 ** 32;
    this.#words[at + 1] = Math.floor(value / 2 ** 32);
  }

  [Symbol.dispose](): void {
    this.#mapping.close();
    this.fd.close();
  }
}

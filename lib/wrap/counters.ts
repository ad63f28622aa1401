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
  readonly #values: BigUint64Array;

  constructor(name: string) {
    this.fd = memfdCreate(name);
    try {
      ftruncate(this.fd, SIZE_BYTES);
      addSeals(this.fd, constants.F_SEAL_SHRINK);
      this.#mapping = mapShared(this.fd, SIZE_BYTES, "read-write");
    } catch (error) {
      this.fd.close();
      throw error;
    }
    this.#values = new BigUint64Array(this.#mapping.buffer, 0, 4);
  }

  add(name: keyof typeof INDEX, amount = 1): void {
    if (this.fd.closed) return; // the listener has ended while a call was answered
    const index = INDEX[name];
    this.#values[index] = (this.#values[index] ?? 0n) + BigInt(amount);
  }

  [Symbol.dispose](): void {
    this.#mapping.close();
    this.fd.close();
  }
}

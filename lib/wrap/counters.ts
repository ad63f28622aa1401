/**
 * A wrapped listener's numbers in a memfd that the broker reads without asking: three 64-bit little-endian counters,
 * connections accepted over the Unix socket, over TCP, and trapped calls answered.
 */
import { addSeals, constants, ftruncate, type Mapping, mapShared, memfdCreate, type OwnedFd } from "../../ffi/mod.ts";

const SIZE_BYTES = 4096;
const INDEX = { unix: 0, tcp: 1, traps: 2 } as const;

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
    this.#values = new BigUint64Array(this.#mapping.buffer, 0, 3);
  }

  add(name: keyof typeof INDEX): void {
    const index = INDEX[name];
    this.#values[index] = (this.#values[index] ?? 0n) + 1n;
  }

  [Symbol.dispose](): void {
    this.#mapping.close();
    this.fd.close();
  }
}

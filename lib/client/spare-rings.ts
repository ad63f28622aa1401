/**
 * Rings that we have made and mapped ahead and that the broker keeps for our next channels, so that a channel is whole as
 * soon as we hear of it. Each has a serial number; what is not used comes back as dropped.
 */
import { type Mapping, type OwnedFd, SyscallError } from "../../ffi/mod.ts";
import { makeMappedRing } from "../channel/memfd.ts";

/** More than these at the broker are not worth their memory. */
const MAX_SPARES = 6;

export type SpareRing = { readonly mapping: Mapping; readonly capacity: number };

export class SpareRings {
  readonly #rings: Map<number, SpareRing> = new Map();
  #lastSerial = 0;

  /** Makes rings until there are `count` of `capacity`, or the system has none to give: they are not necessary.
   *  @param send  hands one to the broker, and takes its descriptor */
  provide(capacity: number, count: number, send: (serial: number, memfd: OwnedFd) => void): void {
    let missing = count;
    for (const ring of this.#rings.values()) if (ring.capacity === capacity) missing -= 1;
    for (; missing > 0 && this.#rings.size < MAX_SPARES; missing--) {
      const ring = tryMakeRing(capacity);
      if (ring === undefined) return;
      const { memfd, mapping } = ring;
      this.#lastSerial = (this.#lastSerial + 1) >>> 0;
      this.#rings.set(this.#lastSerial, { mapping, capacity });
      send(this.#lastSerial, memfd);
    }
  }

  /** The ring of a channel that is open, now the caller's. */
  claim(serial: number): SpareRing | undefined {
    const ring = this.#rings.get(serial);
    this.#rings.delete(serial);
    return ring;
  }

  /** The broker does not have it any more. */
  drop(serial: number): void {
    this.claim(serial)?.mapping.close();
  }

  clear(): void {
    for (const serial of [...this.#rings.keys()]) this.drop(serial);
  }
}

function tryMakeRing(capacity: number): ReturnType<typeof makeMappedRing> | undefined {
  try {
    return makeMappedRing(capacity, "shmlink:spare");
  } catch (error) {
    if (error instanceof SyscallError) return undefined;
    throw error;
  }
}

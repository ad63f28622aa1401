/**
 * Rings that we have made and mapped ahead and that the broker keeps for our next channels, so that a channel is whole as
 * soon as we hear of it. Each has a serial number; what is not used comes back as dropped.
 */
import { ftruncate, type Mapping, mapShared, memfdCreate, type OwnedFd } from "../../ffi/mod.ts";
import { ringFileBytes } from "../ring/layout.ts";

/** More than these at the broker are not worth their memory. */
const MAX_SPARES = 6;

export type SpareRing = { readonly mapping: Mapping; readonly capacity: number };

export class SpareRings {
  readonly #rings: Map<number, SpareRing> = new Map();
  #lastSerial = 0;

  /** Makes rings until there are `count` of `capacity`. @param send  hands one to the broker, and takes its descriptor */
  provide(capacity: number, count: number, send: (serial: number, memfd: OwnedFd) => void): void {
    let missing = count;
    for (const ring of this.#rings.values()) if (ring.capacity === capacity) missing -= 1;
    for (; missing > 0 && this.#rings.size < MAX_SPARES; missing--) {
      const { memfd, mapping } = makeRing(capacity);
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

/** Without its header, which the broker writes when it knows the channel. */
function makeRing(capacity: number): { readonly memfd: OwnedFd; readonly mapping: Mapping } {
  const memfd = memfdCreate("shmlink:spare");
  try {
    ftruncate(memfd, ringFileBytes(capacity));
    return { memfd, mapping: mapShared(memfd, ringFileBytes(capacity), "read-write") };
  } catch (error) {
    memfd.close();
    throw error;
  }
}

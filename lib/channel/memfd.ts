/** The broker's part in a ring: makes its file, seals it once the producer has mapped it, reads its statistics. */
import {
  addSeals,
  type BorrowedFd,
  constants,
  fstat,
  ftruncate,
  type Mapping,
  mapShared,
  memfdCreate,
  type OwnedFd,
  SyscallError,
  write,
} from "../../ffi/mod.ts";
import { ClosedError, ProtocolError } from "../errors.ts";
import {
  DATA_OFFSET,
  decodeHeader,
  encodeHeader,
  HEADER_BYTES,
  type RingHeader,
  type RingSide,
  ringFileBytes,
} from "../ring/layout.ts";
import { readSideStatistics, type SideStatistics } from "../ring/statistics.ts";
import { checkRingSeals, RING_SEALS } from "./seals.ts";

export { type DirectionStatistics, directionStats, type SideStatistics } from "../ring/statistics.ts";

export type RingOptions = {
  readonly channelId: number;
  readonly side: RingSide;
  /** Bytes, a power of two from 4096 to 2^30. */
  readonly capacity: number;
  /** As it shows in /proc, after "memfd:"; default `shmlink:<channel>:<side>`. */
  readonly name?: string;
};

/**
 * Makes the file of a ring, header written, not sealed yet: its producer has to map it first.
 * No page of the ring is touched, so the one who produces into it pays for it.
 * @returns a descriptor the caller owns  @throws RangeError for the capacity, SyscallError EMFILE, ENOMEM
 */
export function createRing(options: RingOptions): OwnedFd {
  const { channelId, side, capacity, name = `shmlink:${channelId}:${side}` } = options;
  const size = ringFileBytes(capacity);
  const fd = memfdCreate(name);
  try {
    write(fd, encodeHeader({ channelId, side, capacity }));
    ftruncate(fd, size);
    addSeals(fd, constants.F_SEAL_SHRINK | constants.F_SEAL_GROW); // ours to map at once: it cannot vanish under RingStats
  } catch (error) {
    fd.close();
    throw error;
  }
  return fd;
}

/** Seals the ring for good and verifies it. @throws ProtocolError when a seal is missing or the header does not fit the size */
export function sealRing(fd: BorrowedFd): void {
  try {
    addSeals(fd, RING_SEALS);
  } catch (error) {
    // EPERM: somebody sealed it before us. What counts is which seals it has.
    if (!(error instanceof SyscallError)) throw error;
  }
  checkRingSeals(fd);
  readRingHeader(fd);
}

/** The header of a ring whose size cannot shrink any more. @throws ProtocolError */
export function readRingHeader(fd: BorrowedFd): RingHeader {
  const { sizeBytes } = fstat(fd);
  if (sizeBytes < DATA_OFFSET) {
    throw new ProtocolError(
      `Cannot use the ring: its file has "${sizeBytes}" bytes, at least ${DATA_OFFSET} are needed`,
    );
  }
  const mapping = mapShared(fd, HEADER_BYTES, "read");
  try {
    return decodeHeader(new Uint8Array(mapping.buffer, 0, 64), sizeBytes);
  } finally {
    mapping.close();
  }
}

/** A read-only mapping of a ring's control page, so that listings cost its peers nothing. */
export class RingStats implements Disposable {
  readonly #mapping: Mapping;
  readonly #capacity: number;

  /** @param fd  lent for the call; of a file at least as long as a ring's header and control page, which does not shrink */
  constructor(fd: BorrowedFd) {
    this.#capacity = readRingHeader(fd).capacity;
    this.#mapping = mapShared(fd, DATA_OFFSET, "read");
  }

  read(): SideStatistics {
    if (this.#mapping.closed) throw new ClosedError("Cannot read statistics of the ring: it was closed");
    return readSideStatistics(new Int32Array(this.#mapping.buffer), this.#capacity);
  }

  close(): void {
    this.#mapping.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

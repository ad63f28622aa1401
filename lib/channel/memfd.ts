/** The broker's part in a ring: makes its file, checks what its producer made of it, reads its statistics. */
import {
  addSeals,
  type BorrowedFd,
  fileSizes,
  ftruncate,
  type Mapping,
  mapShared,
  memfdCreate,
  type OwnedFd,
  PageTable,
  readAt,
  SyscallError,
  write,
} from "../../ffi/mod.ts";
import { ClosedError, ProtocolError } from "../errors.ts";
import {
  DATA_OFFSET,
  decodeHeader,
  encodeHeader,
  HEADER_BYTES,
  isCapacity,
  MIN_CAPACITY,
  NO_CAPACITY,
  NO_CHANNEL,
  type RingHeader,
  type RingSide,
  ringFileBytes,
  writeHeader,
} from "../ring/layout.ts";
import { readSideStatistics, type SideStatistics, STATISTICS_WORDS } from "../ring/statistics.ts";
import { checkRingSeals, RING_SEALS } from "./seals.ts";
import { mostStored } from "./stored.ts";

export {
  type DirectionStatistics,
  directionStats,
  emptySideStatistics,
  type SideStatistics,
} from "../ring/statistics.ts";

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
  } catch (error) {
    fd.close();
    throw error;
  }
  return fd;
}

/**
 * A ring of our own whose channel is not known yet, mapped and sealed, so that nobody has to do more to it. The pages that are
 * used first are there already, written in one piece: that costs less than having each of them made by a fault, and then one
 * fault at either side finds all of them.
 * @throws SyscallError EMFILE, ENOMEM
 */
export function makeMappedRing(capacity: number, name: string): { readonly memfd: OwnedFd; readonly mapping: Mapping } {
  const size = ringFileBytes(capacity);
  const memfd = memfdCreate(name);
  try {
    const written = write(memfd, beginningOf(capacity, size)) ?? 0; // fewer where memory ran out: what is missing comes by faults, or they fail
    if (size > written) ftruncate(memfd, size);
    const mapping = mapShared(memfd, size, "read-write");
    addSeals(memfd, RING_SEALS); // of a file that we have just made: nothing is in its way
    return { memfd, mapping };
  } catch (error) {
    memfd.close();
    throw error;
  }
}

/** Seals the ring for good and verifies it, its size and its header. Waits while somebody changes the file: only for those
 *  who cannot seal it themselves.
 *  @param capacity  what it was made with @throws ProtocolError when a seal is missing or the header does not fit the size */
export function sealRing(fd: BorrowedFd, capacity?: number): void {
  try {
    addSeals(fd, RING_SEALS);
  } catch (error) {
    // EPERM: somebody sealed it before us. What counts is which seals it has.
    if (!(error instanceof SyscallError)) throw error;
  }
  checkSealedRing(fd);
  const found = readRingHeader(fd).capacity;
  if (capacity !== undefined && found !== capacity)
    throw new ProtocolError(`Cannot use the ring: its capacity is "${found}", it was made with "${capacity}"`);
}

/**
 * What a sealed ring is, without waiting for anybody: whoever writes to a file, or reserves pages of it, keeps those out who
 * seal it or write to it too, for as long as he likes.
 *
 * Pages can be reserved beyond the end of a file, where no size shows them, and nobody can once it is sealed.
 * @returns its capacity  @throws ProtocolError when a seal is missing, it has no ring's size, or more memory than its size
 */
export function checkSealedRing(fd: BorrowedFd): number {
  checkRingSeals(fd);
  return checkRingSize(fd);
}

/** The same of a file whose seals have been looked at. */
export function checkRingSize(fd: BorrowedFd): number {
  const { sizeBytes, storedBytes } = fileSizes(fd);
  const capacity = capacityIn(sizeBytes);
  if (storedBytes > mostStored(sizeBytes))
    throw new ProtocolError(`Cannot use the ring: "${storedBytes}" bytes of memory lie in its file of "${sizeBytes}"`);
  return capacity;
}

const HEADER = new Uint8Array(64);
/** Header, control page, and the page where the first record goes: of the smallest ring all there is. */
let beginning: Uint8Array<ArrayBuffer> | undefined;

function beginningOf(capacity: number, fileBytes: number): Uint8Array {
  beginning ??= new Uint8Array(DATA_OFFSET + MIN_CAPACITY);
  writeHeader(beginning.buffer, { channelId: NO_CHANNEL, side: 0, capacity });
  return fileBytes < beginning.length ? beginning.subarray(0, fileBytes) : beginning; // a side that only receives
}

/** Maps a ring for reading once its seals, its size and its header are what they have to be.
 *  @param check  refuses a header  @param above  our own ring, see mapShared()  @throws ProtocolError, what `check` throws */
export function mapSealedRing(
  fd: BorrowedFd,
  check: (header: RingHeader) => void,
  above?: Mapping,
): { readonly header: RingHeader; readonly mapping: Mapping } {
  checkRingSeals(fd);
  const { sizeBytes } = fileSizes(fd);
  capacityIn(sizeBytes);
  readAt(fd, HEADER, 0);
  const header = decodeHeader(HEADER, sizeBytes);
  check(header);
  return { header, mapping: mapShared(fd, sizeBytes, "read", above) };
}

/** @throws ProtocolError when no ring has a file of this size */
function capacityIn(sizeBytes: number): number {
  const capacity = sizeBytes - DATA_OFFSET;
  if (capacity === NO_CAPACITY || isCapacity(capacity)) return capacity;
  throw new ProtocolError(`Cannot use the ring: its file has "${sizeBytes}" bytes, which no ring has`);
}

/** The header of a ring. @throws ProtocolError when it does not fit the size */
export function readRingHeader(fd: BorrowedFd): RingHeader {
  const { sizeBytes } = fileSizes(fd);
  if (sizeBytes < DATA_OFFSET) {
    throw new ProtocolError(
      `Cannot use the ring: its file has "${sizeBytes}" bytes, at least ${DATA_OFFSET} are needed`,
    );
  }
  readAt(fd, HEADER, 0);
  return decodeHeader(HEADER, sizeBytes);
}

const PAGES = new PageTable();
/** Of one control page, for as long as it is looked at. */
const WORDS = new Int32Array(STATISTICS_WORDS);

/** A read-only mapping of a ring's control page, so that listings cost its peers nothing. */
export class RingStats implements Disposable {
  readonly #capacity: number;
  #place: number;

  /** @param fd  lent for the call; of a sealed ring: it does not shrink @param capacity  of it, where it is known */
  constructor(fd: BorrowedFd, capacity: number = readRingHeader(fd).capacity) {
    this.#capacity = capacity;
    this.#place = PAGES.add(fd, HEADER_BYTES);
  }

  read(): SideStatistics {
    if (this.#place < 0) throw new ClosedError("Cannot read statistics of the ring: it was closed");
    PAGES.read(this.#place, WORDS);
    return readSideStatistics(WORDS, this.#capacity);
  }

  close(): void {
    if (this.#place < 0) return;
    PAGES.remove(this.#place);
    this.#place = -1;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

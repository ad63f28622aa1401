/**
 * Counters of rings for listings. A ring that stays gets a mapping of its control page, which costs no descriptor and no
 * call to read. Most channels of a program that dials for each thing it has to say are gone before that pays: until a ring
 * is a little older it is read through a descriptor, when somebody asks.
 */
import { type OwnedFd, readAt, SyscallError } from "../../ffi/mod.ts";
import { RingStats, type SideStatistics } from "../channel/memfd.ts";
import { HEADER_BYTES, ringFileBytes } from "../ring/layout.ts";
import { emptySideStatistics, readSideStatistics, STATISTICS_WORDS } from "../ring/statistics.ts";

const YOUNG_MS = 100;
/** Descriptors that this may cost. */
const MAX_YOUNG = 64;
/**
 * Files above keep their descriptor besides the mapping. Whoever lets go of a file last gives its memory back, a fraction of
 * a second for hundreds of megabytes: a mapping is undone where we stand, a descriptor is closed elsewhere. This much takes
 * less than half a millisecond.
 */
const LARGE_BYTES = 1 << 22;

const WORDS = new Int32Array(STATISTICS_WORDS);
const BYTES = new Uint8Array(WORDS.buffer);

export class RingCounters {
  readonly #capacity: number;
  #fd: OwnedFd | undefined;
  #stats: RingStats | undefined;

  /** @param fd  taken; of a sealed ring */
  constructor(fd: OwnedFd, capacity: number) {
    this.#fd = fd;
    this.#capacity = capacity;
  }

  read(): SideStatistics {
    if (this.#stats !== undefined) return this.#stats.read();
    if (this.#fd === undefined) return emptySideStatistics(this.#capacity);
    readAt(this.#fd, BYTES, HEADER_BYTES);
    return readSideStatistics(WORDS, this.#capacity);
  }

  /** Gives it its mapping; where the kernel maps no more (vm.max_map_count) nothing is shown of it from now on. */
  settle(): void {
    const fd = this.#fd;
    if (fd === undefined || this.#stats !== undefined) return;
    try {
      this.#stats = new RingStats(fd, this.#capacity);
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
    }
    if (this.#stats !== undefined && ringFileBytes(this.#capacity) > LARGE_BYTES) return;
    this.#fd = undefined;
    fd.close();
  }

  /** The descriptor last: it is closed in the way that it was given. Safe to call twice. */
  close(): void {
    this.#stats?.close();
    this.#stats = undefined;
    this.#fd?.close();
    this.#fd = undefined;
  }
}

export class YoungRings {
  readonly #setTimer: (delayMs: number, callback: () => void) => void;
  #young: RingCounters[] = [];
  #isTimerSet = false;

  constructor(setTimer: (delayMs: number, callback: () => void) => void) {
    this.#setTimer = setTimer;
  }

  /** @param fd  taken */
  watch(fd: OwnedFd, capacity: number): RingCounters {
    const counters = new RingCounters(fd, capacity);
    this.#young.push(counters);
    if (this.#young.length > MAX_YOUNG) this.#settle();
    if (!this.#isTimerSet) {
      this.#isTimerSet = true;
      this.#setTimer(YOUNG_MS, () => {
        this.#isTimerSet = false;
        this.#settle();
      });
    }
    return counters;
  }

  /** All at once, whether it is their time yet or not: what has ended meanwhile costs nothing. */
  #settle(): void {
    for (const counters of this.#young) counters.settle();
    this.#young = [];
  }
}

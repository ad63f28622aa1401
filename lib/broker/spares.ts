/**
 * Rings that a client has made and mapped before they are needed, so that a channel is whole in one turn: nobody has to be
 * asked to map anything. Each is charged to its owner, there are few of them, and those that nobody needs are let go.
 *
 * Nothing about such a file is believed. It is taken for a memfd once it carries seals, and its size and header count when
 * it is sealed (adoptRing).
 */
import { addSeals, fstat, getSeals, type OwnedFd, SyscallError, writeAt } from "../../ffi/mod.ts";
import { RING_SEALS } from "../channel/seals.ts";
import { FailureError } from "../errors.ts";
import { DATA_OFFSET, encodeHeader, isCapacity, NO_CAPACITY, type RingHeader, ringFileBytes } from "../ring/layout.ts";
import type { ObjectId } from "../util/brand.ts";
import type { BrokerCore } from "./core.ts";
import type { Owner } from "./records.ts";

const MAX_SPARES = 8;
/** Of a connection that opens no more channels. */
const KEPT_MS = 10_000;
/** What a memfd may have been sealed with at its birth (MFD_NOEXEC_SEAL); any other seal may keep us from our work. */
const F_SEAL_EXEC = 0x20;

export type Spare = {
  readonly serial: number;
  readonly capacity: number;
  readonly fd: OwnedFd;
  /** The object on which it was handed over. */
  readonly manager: ObjectId;
};

export type SpareOptions = {
  readonly core: Pick<BrokerCore, "config" | "quota">;
  readonly owner: Owner;
  readonly setTimer: (delayMs: number, callback: () => void) => void;
  /** Milliseconds; performance.now() unless a test has its own time. */
  readonly now?: () => number;
  /** Tells the client that a ring of its is not kept any more. */
  readonly tellDropped: (manager: ObjectId, serial: number) => void;
};

export class Spares {
  readonly #options: SpareOptions;
  #list: (Spare & { readonly untilMs: number })[] = [];
  readonly #now: () => number;
  #isTimerSet = false;

  constructor(options: SpareOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
  }

  /** Keeps a ring, or tells the client that it does not. @param fd  taken */
  add(manager: ObjectId, serial: number, fd: OwnedFd): void {
    const { core, owner, tellDropped } = this.#options;
    const capacity = this.#list.length < MAX_SPARES ? capacityOf(fd, core.config.limits.maxCapacityBytes) : undefined;
    const isKept =
      capacity !== undefined && core.quota.charge(owner, { fds: 1, sharedBytes: DATA_OFFSET + capacity }) === undefined;
    if (!isKept) {
      fd.close();
      return tellDropped(manager, serial);
    }
    this.#list.push({ serial, capacity, fd, manager, untilMs: this.#now() + KEPT_MS });
    this.#watch();
  }

  /** The oldest of this size, if there is one. What was charged for its bytes stays charged: the channel's from now on. */
  take(capacity: number): Spare | undefined {
    const index = this.#list.findIndex((spare) => spare.capacity === capacity);
    const [spare] = index < 0 ? [] : this.#list.splice(index, 1);
    if (spare !== undefined) this.#options.core.quota.release(this.#options.owner, { fds: 1 });
    return spare;
  }

  /** For one that was taken and came to nothing. */
  discard(spare: Spare): void {
    const { core, owner } = this.#options;
    spare.fd.close();
    core.quota.release(owner, { sharedBytes: DATA_OFFSET + spare.capacity });
    this.tellDropped(spare);
  }

  /** Of one whose channel was never opened. */
  tellDropped({ manager, serial }: Pick<Spare, "manager" | "serial">): void {
    this.#options.tellDropped(manager, serial);
  }

  /** One timer at a time: a client that opens channels all day sets none of them anew. */
  #watch(): void {
    const [oldest] = this.#list;
    if (this.#isTimerSet || oldest === undefined) return;
    this.#isTimerSet = true;
    this.#options.setTimer(Math.max(oldest.untilMs - this.#now(), 0), () => {
      this.#isTimerSet = false;
      this.#dropUntil(this.#now());
      this.#watch();
    });
  }

  #dropUntil(nowMs: number): void {
    for (let [oldest] = this.#list; oldest !== undefined && oldest.untilMs <= nowMs; [oldest] = this.#list) {
      const spare = this.take(oldest.capacity);
      if (spare !== undefined) this.discard(spare);
    }
  }

  /** The session ends. */
  close(): void {
    this.#dropUntil(Number.POSITIVE_INFINITY);
  }
}

/** @returns the bytes of the ring that a file has room for; undefined for what is no memfd that nobody has sealed */
function capacityOf(fd: OwnedFd, maxCapacity: number): number | undefined {
  try {
    // Before anything else: only a memory file carries seals, and only on one of those a write never waits.
    if ((getSeals(fd) & ~F_SEAL_EXEC) !== 0) return undefined;
    const capacity = fstat(fd).sizeBytes - DATA_OFFSET;
    return capacity === NO_CAPACITY || (isCapacity(capacity) && capacity <= maxCapacity) ? capacity : undefined;
  } catch (error) {
    if (error instanceof SyscallError) return undefined;
    throw error;
  }
}

/** Makes a spare ring that of a channel: writes its header, seals it, and looks at what it is then.
 *  @throws FailureError "refused" when it is not what it was */
export function adoptRing({ fd }: Spare, wanted: RingHeader): void {
  try {
    writeAt(fd, encodeHeader(wanted), 0);
    addSeals(fd, RING_SEALS);
    // Its size cannot change any more. Its header its owner can still write; who is to read it checks it for himself.
    if (fstat(fd).sizeBytes === ringFileBytes(wanted.capacity)) return;
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
  }
  throw new FailureError("refused", "Cannot use the ring that was made for the channel: it is not what it was");
}

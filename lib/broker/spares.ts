/**
 * Rings that a client has made and mapped before they are needed, so that a channel is whole in one turn: nobody has to be
 * asked to map anything. Each is charged to its owner, there are few of them, and those that nobody needs are let go.
 *
 * Nothing about such a file is believed, and nothing is done to it: whoever has it open may be writing to it, and then a
 * write of ours, or a seal, would wait for as long as he likes. It has all its seals already, so that what it is now it stays.
 */
import { constants, getSeals, memfdCreate, type OwnedFd, SyscallError } from "../../ffi/mod.ts";
import { checkRingSize } from "../channel/memfd.ts";
import { RING_SEALS } from "../channel/seals.ts";
import { ProtocolError } from "../errors.ts";
import { DATA_OFFSET, ringFileBytes } from "../ring/layout.ts";
import type { ObjectId } from "../util/brand.ts";
import type { BrokerCore } from "./core.ts";
import { MOST_STORED_BYTES } from "./harmless.ts";
import type { Owner } from "./records.ts";

const MAX_SPARES = 8;
/** Of a connection that opens no more channels. */
const KEPT_MS = 10_000;

export type Spare = {
  readonly serial: number;
  readonly capacity: number;
  readonly fd: OwnedFd;
  /** The object on which it was handed over. */
  readonly manager: ObjectId;
  /** When it is let go of. */
  readonly untilMs: number;
};

export type SpareOptions = {
  readonly core: Pick<BrokerCore, "config" | "quota">;
  readonly owner: Owner;
  readonly setTimer: (delayMs: number, callback: () => void) => { cancel(): void };
  /** Milliseconds; performance.now() unless a test has its own time. */
  readonly now?: () => number;
  /** Tells the client that a ring of its is not kept any more. */
  readonly tellDropped: (manager: ObjectId, serial: number) => void;
};

export class Spares {
  readonly #options: SpareOptions;
  #list: Spare[] = [];
  readonly #now: () => number;
  #timer: { cancel(): void } | undefined;

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

  /** For one that was taken for a channel that came to nothing, which is not its owner's fault. */
  putBack(spare: Spare): void {
    this.#options.core.quota.restore(this.#options.owner, { fds: 1 });
    this.#list.push(spare);
    this.#list.sort((a, b) => a.untilMs - b.untilMs);
    this.#watch();
  }

  #discard(spare: Spare): void {
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
    if (this.#timer !== undefined || oldest === undefined) return;
    this.#timer = this.#options.setTimer(Math.max(oldest.untilMs - this.#now(), 0), () => {
      this.#timer = undefined;
      this.#dropUntil(this.#now());
      this.#watch();
    });
  }

  #dropUntil(nowMs: number): void {
    for (let [oldest] = this.#list; oldest !== undefined && oldest.untilMs <= nowMs; [oldest] = this.#list) {
      const spare = this.take(oldest.capacity);
      if (spare !== undefined) this.#discard(spare);
    }
  }

  /** What is only kept ready makes room for what is wanted now. */
  giveWay(): void {
    this.#dropUntil(Number.POSITIVE_INFINITY);
  }

  /** The session ends; its timer would keep it until then. */
  close(): void {
    this.giveWay();
    this.#timer?.cancel();
    this.#timer = undefined;
  }
}

/** @returns the bytes of the ring; undefined for what is none, or not sealed as rings are and in no other way */
function capacityOf(fd: OwnedFd, maxCapacity: number): number | undefined {
  try {
    // Before anything else: only a memory file carries seals, and only one of those answers at once.
    if (getSeals(fd) !== wantedSeals()) return undefined;
    const capacity = checkRingSize(fd);
    if (capacity > maxCapacity) return undefined;
    // It stays as small as it is: nobody has to ask again, for each copy of it, whether closing it takes long.
    if (ringFileBytes(capacity) <= MOST_STORED_BYTES) fd.closeInPlace();
    return capacity;
  } catch (error) {
    if (error instanceof SyscallError || error instanceof ProtocolError) return undefined;
    throw error;
  }
}

let seals: number | undefined;

/** Also F_SEAL_EXEC (MFD_NOEXEC_SEAL), where this kernel has it. */
function wantedSeals(): number {
  if (seals === undefined) {
    using probe = memfdCreate("shmlink:probe");
    seals = RING_SEALS | (getSeals(probe) & constants.F_SEAL_EXEC);
  }
  return seals;
}

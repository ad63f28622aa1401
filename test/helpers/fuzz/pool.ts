/** Descriptors that a fuzzer sends: one of each kind, rings that are as they have to be, and what it was given. */
import {
  accept,
  addSeals,
  type BorrowedFd,
  bind,
  constants,
  epollCreate,
  ftruncate,
  listen,
  memfdCreate,
  type OwnedFd,
  open,
  pidfdOpen,
  pipe,
  SyscallError,
  socket,
  socketpair,
  unixAddress,
} from "../../../ffi/mod.ts";
import { createRing } from "../../../lib/channel/memfd.ts";
import { RING_SEALS } from "../../../lib/channel/seals.ts";
import { NO_CHANNEL } from "../../../lib/ring/layout.ts";
import type { Random } from "./random.ts";

const MAX_FOUND = 6;
const COUNTERS_BYTES = 4096;

export class Pool implements Disposable {
  readonly #random: Random;
  /** /dev/null first. */
  readonly #own: readonly OwnedFd[];
  readonly #found: OwnedFd[] = [];
  /** Of the listener that contexts are made of. */
  readonly contextPath: string;

  constructor(random: Random, directory: string) {
    this.#random = random;
    this.contextPath = `${directory}/other`;
    const [near, far] = socketpair(constants.SOCK_STREAM | constants.SOCK_NONBLOCK);
    const { reader, writer } = pipe();
    const listener = socket(constants.AF_UNIX, constants.SOCK_STREAM | constants.SOCK_NONBLOCK);
    bind(listener, unixAddress(this.contextPath), "other");
    listen(listener, 8);
    const nothing = open("/dev/null", constants.O_RDONLY);
    const plain = [memfdCreate("fuzz"), open("/", constants.O_RDONLY), epollCreate(), pidfdOpen(process.pid)];
    this.#own = [nothing, near, far, reader, writer, listener, listener.dup(), ...plain];
  }

  get nothing(): BorrowedFd {
    return this.#own[0] as OwnedFd; // there is one
  }

  /** @param use  what the argument is for */
  pick(use: string): BorrowedFd {
    const [, near, , reader, writer, listener] = this.#own;
    if (use === "listenFd" && listener !== undefined && !this.#random.chance(8)) return listener;
    if (use === "closeFd" && !this.#random.chance(8)) return this.#random.pick([near, reader, writer]) as OwnedFd;
    if (use === "counters" && !this.#random.chance(8)) return this.#makeCounters();
    if ((use === "memfd" && !this.#random.chance(8)) || this.#random.chance(10)) return this.#makeRing();
    return this.#random.pick(this.#found.length > 0 && this.#random.chance(5) ? this.#found : this.#own);
  }

  /** As a supervisor has them. */
  #makeCounters(): OwnedFd {
    const fd = memfdCreate("fuzz");
    ftruncate(fd, COUNTERS_BYTES);
    addSeals(fd, constants.F_SEAL_SHRINK | constants.F_SEAL_GROW);
    this.keep(fd);
    return fd;
  }

  /** As a client makes one ahead, mostly sealed. */
  #makeRing(): OwnedFd {
    const capacity = 4096 << this.#random.below(2);
    const ring = createRing({ channelId: NO_CHANNEL, side: 0, capacity, name: "fuzz" });
    if (!this.#random.chance(8)) addSeals(ring, RING_SEALS);
    this.keep(ring);
    return ring;
  }

  /** What the broker has handed out: sealed, as a client does that has mapped it, and sent again some day. */
  found(fd: OwnedFd): void {
    if (!this.#random.chance(4)) trySeal(fd);
    this.keep(fd);
  }

  keep(fd: OwnedFd): void {
    this.#found.push(fd);
    if (this.#found.length > MAX_FOUND) this.#found.shift()?.close();
  }

  /** What waits in the listener's queue may hold a connection of somebody who offers that listener: as documented, he
   *  keeps himself alive then. Nobody does once they are let in here and shown out. */
  #emptyQueue(): void {
    const listener = this.#own[5] as OwnedFd; // as the constructor has it
    for (let waiting = accept(listener); waiting !== null; waiting = accept(listener)) waiting.fd.close();
  }

  [Symbol.dispose](): void {
    this.#emptyQueue();
    for (const fd of [...this.#own, ...this.#found]) fd.close();
  }
}

function trySeal(fd: OwnedFd): void {
  try {
    addSeals(fd, RING_SEALS);
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error; // no memfd, or sealed already
  }
}

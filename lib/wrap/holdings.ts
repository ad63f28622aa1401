/**
 * Where a process holds a socket: under which numbers, and in which epoll sets. Both mean the open file, not the
 * number of the call that is trapped, so all of them have to be exchanged when another socket takes its place.
 */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { type BorrowedFd, epollCreate, epollHolding, fstat, isSameFile, SyscallError } from "../../ffi/mod.ts";

export type EpollEntry = {
  /** Of the epoll instance in that process. */
  readonly epoll: number;
  /** Under which the socket was registered. */
  readonly number: number;
  readonly events: number;
  readonly data: bigint;
};

export type Holdings = { readonly numbers: readonly number[]; readonly registrations: readonly EpollEntry[] };

const EPOLL = "anon_inode:[eventpoll]";
const ENTRY = /^tfd:\s*(\d+)\s+events:\s*([0-9a-f]+)\s+data:\s*([0-9a-f]+)\s+pos:\S+\s+ino:([0-9a-f]+)/gm;

/** For so long a survey is trusted: an epoll set may come by descriptor passing, unseen; longer where a program has so many
 *  descriptors that looking at each of them takes long. */
const TRUST_MS = 20;
const LONGEST_TRUST_MS = 500;
const TRUST_PER_LOOK = 25;
const MAX_THREADS = 64;

/** What a whole look at a descriptor table found: the numbers of its epoll sets. */
export type Survey = { readonly untilMs: number; readonly epolls: readonly number[] };

/** Finds holdings in /proc, and remembers for a moment what it need not look at again. */
export class HoldingsFinder {
  readonly #surveys: Map<number, Survey> = new Map();
  #unsettledUntilMs = 0;
  /** Whether this kernel has kcmp(2): findRegistrations() looks at every descriptor otherwise. */
  readonly canCompare: boolean = canCompare();

  /** Told of each expectEpollSet(). */
  onExpect: () => void = () => undefined;

  /** What the last survey found, which need not be trusted still: see `untilMs`. undefined where an epoll set may have been
   *  made since. */
  known(thread: number): Survey | undefined {
    return this.#surveys.get(thread);
  }

  /** Its number may be another thread's from now on. */
  forget(thread: number): void {
    this.#surveys.delete(thread);
  }

  /** Some thread is about to make an epoll set: no survey that was made before it is there counts. */
  expectEpollSet(): void {
    this.onExpect();
    this.#surveys.clear();
    this.#unsettledUntilMs = performance.now() + TRUST_MS;
  }

  /** Everything, as far as /proc shows it. @param number  one that is known @param socket  what it means; lent */
  findAll(thread: number, number: number, socket: BorrowedFd): Holdings {
    const look = this.canCompare ? lookByComparing : lookByName;
    const numbers = [number];
    const epolls: number[] = [];
    let isRegistered = false;
    for (const each of descriptorsOf(thread)) {
      const what = each === number ? "same" : look(thread, each, number, socket);
      if (what === "same" && each !== number) numbers.push(each);
      if (what === "epoll" || what === "epoll with it") epolls.push(each);
      if (what === "epoll with it") isRegistered = true;
    }
    if (!isRegistered && numbers.length === 1) return { numbers, registrations: [] };
    const registrations = readRegistrations(thread, epolls, socket);
    return { numbers, registrations: registrations.filter((entry) => numbers.includes(entry.number)) };
  }

  /** The epoll sets that hold it under that number, without a look at each descriptor each time.
   *  @param number  @param socket  as of findAll() */
  findRegistrations(thread: number, number: number, socket: BorrowedFd): readonly EpollEntry[] {
    if (!this.canCompare) return this.findAll(thread, number, socket).registrations;
    const survey = this.#surveys.get(thread);
    const known =
      survey === undefined || survey.untilMs < performance.now() ? undefined : revisit(survey, thread, number, socket);
    const holding = known ?? this.#survey(thread, number, socket);
    if (holding.length === 0) return [];
    return readRegistrations(thread, holding, socket).filter((entry) => entry.number === number);
  }

  #survey(thread: number, number: number, socket: BorrowedFd): number[] {
    const startMs = performance.now();
    const epolls: number[] = [];
    const holding: number[] = [];
    for (const each of descriptorsOf(thread)) {
      const what = each === number ? "other" : holdingOf(socket, thread, each, number);
      if (what === "with") holding.push(each);
      if (what === "with" || what === "without") epolls.push(each);
    }
    const nowMs = performance.now();
    const trustMs = Math.min(Math.max(TRUST_MS, (nowMs - startMs) * TRUST_PER_LOOK), LONGEST_TRUST_MS);
    if (this.#surveys.size >= MAX_THREADS) this.#surveys.clear();
    if (nowMs > this.#unsettledUntilMs) this.#surveys.set(thread, { untilMs: nowMs + trustMs, epolls });
    return holding;
  }
}

/** Looks at the epoll sets of a survey alone: who makes another tells us, by epoll_create(2).
 *  @returns undefined where one of them has gone: it may have another number by now */
function revisit({ epolls }: Survey, thread: number, number: number, socket: BorrowedFd): number[] | undefined {
  const holding: number[] = [];
  for (const each of epolls) {
    const what = holdingOf(socket, thread, each, number);
    if (what === "closed" || what === "other") return undefined;
    if (what === "with") holding.push(each);
  }
  return holding;
}

type What = "same" | "other" | "epoll" | "epoll with it";

/** kcmp(2) takes a fraction of the time that /proc takes, and some kernels are built without it. */
function canCompare(): boolean {
  try {
    using probe = epollCreate();
    return isSameFile(probe, process.pid, probe.number);
  } catch (error) {
    if (error instanceof SyscallError) return false;
    throw error;
  }
}

type EpollLook = ReturnType<typeof epollHolding>;

function holdingOf(socket: BorrowedFd, thread: number, each: number, number: number): EpollLook {
  try {
    return epollHolding(socket, thread, each, number);
  } catch (error) {
    if (error instanceof SyscallError) return "other"; // it has ended
    throw error;
  }
}

function lookByComparing(thread: number, each: number, number: number, socket: BorrowedFd): What {
  const holding = holdingOf(socket, thread, each, number);
  if (holding === "with") return "epoll with it";
  if (holding === "without") return "epoll";
  try {
    return isSameFile(socket, thread, each) ? "same" : "other";
  } catch (error) {
    if (error instanceof SyscallError) return "other"; // it has ended
    throw error;
  }
}

function lookByName(thread: number, each: number, _number: number, socket: BorrowedFd): What {
  const link = linkOf(thread, each);
  if (link === EPOLL) return "epoll with it"; // its entries say whether
  return link === `socket:[${fstat(socket).ino}]` ? "same" : "other";
}

function readRegistrations(thread: number, epolls: readonly number[], socket: BorrowedFd): EpollEntry[] {
  const inode = fstat(socket).ino;
  return epolls.flatMap((epoll) => registrationsIn(fdinfo(thread, epoll), epoll, inode));
}

/** Reads what proc(5) says of an epoll instance. */
export function registrationsIn(info: string, epoll: number, inode: bigint): EpollEntry[] {
  return [...info.matchAll(ENTRY)].flatMap(([, number, events, data, ino]) => {
    if (BigInt(`0x${ino}`) !== inode) return [];
    return [{ epoll, number: Number(number), events: Number.parseInt(events ?? "", 16), data: BigInt(`0x${data}`) }];
  });
}

/** The numbers that a thread has in use; none where we may not look. */
export function descriptorsOf(thread: number): number[] {
  try {
    return readdirSync(`/proc/${thread}/fd`).map(Number);
  } catch {
    return [];
  }
}

function linkOf(thread: number, fd: number): string {
  try {
    return readlinkSync(`/proc/${thread}/fd/${fd}`);
  } catch {
    return "";
  }
}

function fdinfo(thread: number, fd: number): string {
  try {
    return readFileSync(`/proc/${thread}/fdinfo/${fd}`, "latin1");
  } catch {
    return "";
  }
}

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

/** Numbers below this are looked at every time: programs make their epoll sets early. */
const ALWAYS_BELOW = 64;
/** For so long a higher number that was something else is taken to be that still. A program with thousands of sockets
 *  would otherwise cost a look at each of them for each connect(). */
const TRUST_MS = 500;
const MAX_THREADS = 64;

/** Finds holdings in /proc, and remembers for a moment what it need not look at again. */
export class HoldingsFinder {
  /** Thread → number → when it was last seen to be something else. */
  readonly #seen: Map<number, Map<number, number>> = new Map();
  readonly #look: Look = chooseLook();

  /** As far as /proc shows it. @param number  one that is known @param socket  what it means; lent */
  find(thread: number, number: number, socket: BorrowedFd): Holdings {
    const numbers = [number];
    const epolls: number[] = [];
    let isRegistered = false;
    const nowMs = performance.now();
    const seen = this.#seenOf(thread);
    for (const fd of descriptorsOf(thread)) {
      const each = Number(fd);
      if (each === number || nowMs - (seen.get(each) ?? Number.NEGATIVE_INFINITY) < TRUST_MS) continue;
      const what = this.#look(thread, each, number, socket);
      if (what === "same") numbers.push(each);
      else if (what === "other" && each >= ALWAYS_BELOW) seen.set(each, nowMs);
      else if (what !== "other") epolls.push(each);
      if (what === "epoll with it") isRegistered = true;
    }
    seen.delete(number); // it is about to be exchanged
    if (!isRegistered && numbers.length === 1) return { numbers, registrations: [] };
    const inode = fstat(socket).ino;
    const registrations = epolls.flatMap((epoll) => registrationsIn(fdinfo(thread, epoll), epoll, inode));
    return { numbers, registrations: registrations.filter((entry) => numbers.includes(entry.number)) };
  }

  #seenOf(thread: number): Map<number, number> {
    const known = this.#seen.get(thread);
    if (known !== undefined) return known;
    if (this.#seen.size >= MAX_THREADS) this.#seen.clear();
    const made = new Map<number, number>();
    this.#seen.set(thread, made);
    return made;
  }
}

type What = "same" | "other" | "epoll" | "epoll with it";
type Look = (thread: number, each: number, number: number, socket: BorrowedFd) => What;

/** kcmp(2) takes a fraction of the time, and some kernels are built without it. */
function chooseLook(): Look {
  try {
    using probe = epollCreate();
    return isSameFile(probe, process.pid, probe.number) ? lookByComparing : lookByName;
  } catch (error) {
    if (error instanceof SyscallError) return lookByName;
    throw error;
  }
}

function lookByComparing(thread: number, each: number, number: number, socket: BorrowedFd): What {
  try {
    const holding = epollHolding(socket, thread, each, number);
    if (holding !== "other") return holding === "with" ? "epoll with it" : "epoll";
    return isSameFile(socket, thread, each) ? "same" : "other";
  } catch (error) {
    if (error instanceof SyscallError) return "other"; // it has ended
    throw error;
  }
}

function lookByName(thread: number, each: number, _number: number, socket: BorrowedFd): What {
  const link = linkOf(thread, String(each));
  if (link === EPOLL) return "epoll with it"; // its entries say whether
  return link === `socket:[${fstat(socket).ino}]` ? "same" : "other";
}

/** Reads what proc(5) says of an epoll instance. */
export function registrationsIn(info: string, epoll: number, inode: bigint): EpollEntry[] {
  return [...info.matchAll(ENTRY)].flatMap(([, number, events, data, ino]) => {
    if (BigInt(`0x${ino}`) !== inode) return [];
    return [{ epoll, number: Number(number), events: Number.parseInt(events ?? "", 16), data: BigInt(`0x${data}`) }];
  });
}

function descriptorsOf(thread: number): string[] {
  try {
    return readdirSync(`/proc/${thread}/fd`);
  } catch {
    return [];
  }
}

function linkOf(thread: number, fd: string): string {
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

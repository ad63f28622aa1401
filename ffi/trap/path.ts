/**
 * The common case of a trapped call in machine code (machine/trap-path.c): one call from here does the thirty system
 * calls of a connect() that ends as the one before it, and of those that follow while nobody else has work for this thread.
 * What it may take for granted is written into one struct; a supervisor keeps it up to date and does itself whatever is
 * left to it. On x86-64 alone.
 */
import { ARCH, installEntry } from "../code-page.ts";
import { check } from "../errno.ts";
import { type BorrowedFd, OwnedFd } from "../fd.ts";
import { CODE_HEX, SERVE_OFFSET } from "../machine/trap-path.gen.ts";
import { allocateForever, type NativeMemory } from "../memory.ts";
import { NOTIF, type Notification, readNotification } from "../notification.ts";
import { unixAddress } from "../sys/address.ts";
import { TrapCounts, type TrapCountVisitor } from "./counts.ts";
import { TrapListeners } from "./listeners.ts";
import { TrapMaker } from "./maker.ts";
import { type OptionCheck, writeChecks } from "./options.ts";
import { TrapTargets } from "./targets.ts";
import { TrapThreads } from "./threads.ts";
import { TrapTouched } from "./touched.ts";
import { TrapWaker } from "./waker.ts";

// struct trap_path
const SIZE_BYTES = 22_624;
const [NOTIFY, EPOLL, SELF, CHECK_COUNT, BUFFER_NAME, FIRST_PORT, NEXT_PORT] = [8, 12, 16, 20, 24, 32, 40];
const [MOST_KEPT, TARGET, FD, FROM, WAKER, CHECKS, MAX_CHECKS] = [48, 52, 56, 60, 72, 80, 12];
const [NAME, NAME_LENGTH, ENDS_LENGTH, ENDS, END_BYTES] = [21_968, 22_096, 22_100, 22_104, 32];
const [OTHERS, MAKER] = [22_168, 22_616];
/** So many times we are called before there is a waker: most programs connect a few times and pay nothing for it. */
const SEVERAL = 16;

export type TrapPathOptions = {
  /** The seccomp listener. */
  readonly notify: BorrowedFd;
  /** Of a TCP socket as it is born: any other is left. At most 12, of at most 16 bytes. */
  readonly checks: readonly OptionCheck[];
  /** At SOL_SOCKET, below 64: that they were set is noted in `touched`, by machine code too. */
  readonly noted: readonly number[];
  /** By which option a Unix socket gets its room for sending, and how much. */
  readonly sendBuffer: { readonly name: number; readonly bytes: number };
  /** Ports for those who connect: every second one from `first`. */
  readonly ports: { readonly first: number; readonly count: number };
  /** What stands in a client's abstract name, "@" first, before its port and between that and the server's. */
  readonly ends: readonly [string, string];
  /** An epoll set that can be read when somebody else has work for this thread. Open for as long as we are there. */
  readonly others: BorrowedFd;
  /** How many files of /proc may stay open: each would have to be opened for each connection else. */
  readonly mostFiles: number;
};

export type Served =
  /** All that came has been answered, and counted. */
  | { readonly kind: "served" }
  | { readonly kind: "gone" }
  /** All have been answered but one, which came when the time was over: serve() again, at once, does that. */
  | { readonly kind: "late"; readonly call: Notification }
  | { readonly kind: "left"; readonly call: Notification }
  /** The socket is in place, and not answered yet: others hold the old one, which had that number here. */
  | {
      readonly kind: "still held";
      readonly call: Notification;
      readonly target: number;
      readonly fd: OwnedFd;
      readonly from: number;
    }
  /** A connection was accepted, and is not given to the call: it is nothing ordinary, or nobody waits any more. */
  | {
      readonly kind: "taken";
      readonly call: Notification;
      readonly listener: number;
      readonly fd: OwnedFd;
      readonly address: Uint8Array;
    }
  /** The socket is in place, and nobody waits for the answer any more. */
  | { readonly kind: "unanswered"; readonly target: number; readonly fd: OwnedFd };

const SERVED: Served = { kind: "served" };
const GONE: Served = { kind: "gone" };

let entry: ((path: number) => number) | undefined;

function serveFunction(): (path: number) => number {
  entry ??= installEntry(CODE_HEX, SERVE_OFFSET);
  return entry;
}

export class TrapPath implements Disposable {
  readonly #memory: NativeMemory = allocateForever(SIZE_BYTES); // for one tree, of which a process has one
  readonly #serve: (path: number) => number = serveFunction();
  readonly #counts: TrapCounts = new TrapCounts(this.#memory);
  readonly targets: TrapTargets = new TrapTargets(this.#memory);
  readonly threads: TrapThreads = new TrapThreads(this.#memory);
  readonly listeners: TrapListeners = new TrapListeners(this.#memory);
  readonly touched: TrapTouched;
  readonly #others: BorrowedFd;
  #times = 0;
  #waker: TrapWaker | undefined;
  #maker: TrapMaker | undefined;

  /** Whether there is one for this processor. */
  static get isAvailable(): boolean {
    return ARCH === "x64";
  }

  constructor({ notify, checks, noted, sendBuffer, ports, ends, others, mostFiles }: TrapPathOptions) {
    const { data, bytes } = this.#memory;
    if (checks.length > MAX_CHECKS)
      throw new RangeError(`Cannot check ${checks.length} options: ${MAX_CHECKS} is the most`);
    this.#others = others;
    this.touched = new TrapTouched(this.#memory, noted);
    data.setBigUint64(0, BigInt(NOTIF.address), true);
    data.setInt32(NOTIFY, notify.number, true);
    data.setInt32(SELF, process.pid, true);
    data.setInt32(BUFFER_NAME, sendBuffer.name, true);
    data.setInt32(BUFFER_NAME + 4, sendBuffer.bytes, true);
    data.setInt32(FIRST_PORT, ports.first, true);
    data.setInt32(FIRST_PORT + 4, ports.count, true);
    data.setInt32(OTHERS, others.number, true);
    data.setInt32(MOST_KEPT, mostFiles, true);
    data.setInt32(CHECK_COUNT, checks.length, true);
    writeChecks(this.#memory, CHECKS, checks);
    const [first, second] = [unixAddress(ends[0]), new TextEncoder().encode(ends[1])];
    bytes.set(first, ENDS);
    bytes.set(second, ENDS + END_BYTES);
    data.setUint32(ENDS_LENGTH, first.length | (second.length << 16), true);
  }

  /** Of the ports, which one was taken last. */
  get offset(): number {
    return this.#memory.data.getInt32(NEXT_PORT, true);
  }

  set offset(value: number) {
    this.#memory.data.setInt32(NEXT_PORT, value, true);
  }

  /** Takes the next trapped call, which has to be there, and then others. What it returns is the last one, which is
   *  not counted unless it was "served". @param lettingGo  an epoll set that learns who holds a file still
   *  @param mostMs  for so long calls that come may be answered */
  serve(lettingGo: BorrowedFd, mostMs: number): Served {
    this.#memory.data.setInt32(EPOLL, lettingGo.number, true);
    this.#counts.limit(mostMs);
    if (++this.#times === SEVERAL) this.#startWaker();
    return this.#read(check(this.#serve(this.#memory.address), "ioctl SECCOMP_IOCTL_NOTIF_RECV"));
  }

  #startWaker(): void {
    this.#waker = TrapWaker.start(this.#others);
    if (this.#waker !== undefined) this.#memory.data.setBigUint64(WAKER, BigInt(this.#waker.address), true);
  }

  /** Has sockets made ahead for those who connect, from now on or no more. @returns whether there are any */
  makeAhead(isWished: boolean): boolean {
    if (isWished) this.#maker ??= TrapMaker.start();
    this.#memory.data.setBigUint64(MAKER, isWished ? BigInt(this.#maker?.address ?? 0) : 0n, true);
    if (!isWished) this.#maker?.clear();
    return isWished && this.#maker !== undefined;
  }

  /** Takes what serve() has counted: to be called each time. @param ms  and @returns  as of TrapCounts */
  takeCounts(ms: number, visitor: TrapCountVisitor): number {
    return this.#counts.take(ms, visitor);
  }

  #read(result: number): Served {
    const { data, bytes } = this.#memory;
    if (result === 0) return SERVED;
    if (result === 1) return GONE;
    if (result === 2) return { kind: "left", call: readNotification() };
    if (result === 6) return { kind: "late", call: readNotification() };
    const fd = new OwnedFd(data.getInt32(FD, true));
    const target = data.getInt32(TARGET, true);
    if (result === 4) return { kind: "unanswered", target, fd };
    if (result === 5) {
      const peer = bytes.slice(NAME, NAME + Math.min(data.getUint32(NAME_LENGTH, true), NAME_LENGTH - NAME));
      return { kind: "taken", call: readNotification(), listener: target, fd, address: peer };
    }
    return { kind: "still held", call: readNotification(), target, fd, from: data.getInt32(FROM, true) };
  }

  [Symbol.dispose](): void {
    this.#memory.data.setBigUint64(WAKER, 0n, true);
    this.#waker?.[Symbol.dispose]();
    this.makeAhead(false);
    this.#maker?.[Symbol.dispose]();
    for (let index = 0; index < TrapThreads.MAX; index++) this.threads.release(index);
    for (let index = 0; index < TrapListeners.MAX; index++) this.listeners.set(index, undefined);
  }
}

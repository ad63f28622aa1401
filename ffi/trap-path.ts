/**
 * The common case of a trapped call in machine code (machine/trap-path.c): one call from here does the thirty system
 * calls of a connect() that ends as the one before it, and of those that follow while nobody else has work for this thread.
 * What it may take for granted is written into one struct; a supervisor keeps it up to date and does itself whatever is
 * left to it. On x86-64 alone.
 */
import { calls } from "./calls.ts";
import { ARCH, codeBytes, installCode } from "./code-page.ts";
import { MAP_SHARED, PROT_READ, PROT_WRITE } from "./constants.ts";
import { check } from "./errno.ts";
import { type BorrowedFd, OwnedFd } from "./fd.ts";
import { backend } from "./load.ts";
import { CODE_HEX, SERVE_OFFSET } from "./machine/trap-path.gen.ts";
import { allocateForever, type NativeMemory } from "./memory.ts";
import { NOTIF, type Notification, readNotification } from "./notification.ts";
import { unixAddress } from "./sys/address.ts";
import { TrapCounts, type TrapCountVisitor } from "./trap-counts.ts";

// struct trap_path
const SIZE_BYTES = 22_456;
const [NOTIFY, EPOLL, SELF, CHECK_COUNT, BUFFER_NAME, FIRST_PORT, NEXT_PORT] = [8, 12, 16, 20, 24, 32, 40];
const [KEPT, MOST_KEPT, TARGET, FD, FROM, TOUCHED_COUNT, CHECKS, TOUCHED] = [44, 48, 52, 56, 60, 64, 80, 19_472];
const [CHECK_BYTES, MAX_CHECKS, CHECK_VALUE] = [32, 12, 16];
const [TARGETS, TARGET_BYTES, MAX_TARGETS] = [464, 264, 8];
const [USED, PATH_LENGTH, HEAD_LENGTH, TAIL_LENGTH, PATH, HEAD, TAIL, NAME_BYTES] = [8, 12, 16, 20, 24, 136, 200, 64];
const [THREADS, THREAD_BYTES, MAX_THREADS] = [2576, 1056, 16];
const [PIDFD, EPOLL_COUNT, EPOLLS, MAX_EPOLLS, USED_THREAD, FDINFO, MAX_NUMBERS] = [4, 8, 12, 4, 28, 32, 256];
const MAX_TOUCHED = 16;
const [LISTENERS, LISTENER_BYTES, MAX_LISTENERS, MAX_OPTIONS] = [19_600, 296, 8, 4];
const [LISTENER_USED, OPTION_COUNT, ADDRESS_LENGTH, LISTENER_PATH_LENGTH] = [8, 12, 16, 20];
const [LISTENER_ADDRESS, LISTENER_PATH, LISTENER_OPTIONS] = [24, 56, 168];
const [NAME, NAME_LENGTH, ENDS_LENGTH, ENDS, END_BYTES] = [21_968, 22_096, 22_100, 22_104, 32];
const [OTHERS, COUNTERS, PAGE_BYTES] = [22_168, 22_392, 4096];

export type OptionCheck = { readonly level: number; readonly name: number; readonly value: Uint8Array };

export type TrapPathOptions = {
  /** The seccomp listener. */
  readonly notify: BorrowedFd;
  /** Of a TCP socket as it is born: any other is left. At most 12, of at most 16 bytes. */
  readonly checks: readonly OptionCheck[];
  /** By which option a Unix socket gets its room for sending, and how much. */
  readonly sendBuffer: { readonly name: number; readonly bytes: number };
  /** Ports for those who connect: every second one from `first`. */
  readonly ports: { readonly first: number; readonly count: number };
  /** What stands in a client's abstract name, "@" first, before its port and between that and the server's. */
  readonly ends: readonly [string, string];
  /** Can be read when somebody else has work for this thread. */
  readonly others: BorrowedFd;
  /** How many files of /proc may stay open: each would have to be opened for each connection else. */
  readonly mostFiles: number;
};

/** A listener, where it is certain what each of its connections gets. */
export type TrapListener = {
  /** Its SO_COOKIE. */
  readonly cookie: bigint;
  /** What its socket says of itself. */
  readonly address: string;
  /** The sockaddr that a client on 127.0.0.1 is shown as; the port is put in. */
  readonly client: Uint8Array;
  /** A file whose first four 64-bit words count, of which we count the first, third and fourth: connections, calls and
   *  the nanoseconds that those took. */
  readonly counters: BorrowedFd;
  /** What connections inherit; at most 4, of at most 16 bytes. */
  readonly options: readonly OptionCheck[];
};

/** Where connections to an IPv4 endpoint go. */
export type TrapTarget = {
  readonly host: Uint8Array;
  readonly port: number;
  readonly path: string;
  /** What the abstract name of a client's end is, "@" first, before and after its port. */
  readonly head: string;
  readonly tail: string;
};

export type Served =
  /** All that came has been answered, and counted. */
  | { readonly kind: "served" }
  | { readonly kind: "gone" }
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
  entry ??= backend.pointer(installCode(codeBytes(CODE_HEX)) + SERVE_OFFSET, { args: ["address"], result: "i32" });
  return entry;
}

export class TrapPath implements Disposable {
  static readonly MAX_TARGETS: number = MAX_TARGETS;
  static readonly MAX_THREADS: number = MAX_THREADS;
  static readonly MAX_LISTENERS: number = MAX_LISTENERS;
  readonly #memory: NativeMemory = allocateForever(SIZE_BYTES); // for one tree, of which a process has one
  readonly #serve: (path: number) => number = serveFunction();
  readonly #counts: TrapCounts = new TrapCounts(this.#memory);

  /** Whether there is one for this processor. */
  static get isAvailable(): boolean {
    return ARCH === "x64";
  }

  constructor({ notify, checks, sendBuffer, ports, ends, others, mostFiles }: TrapPathOptions) {
    const { data, bytes } = this.#memory;
    if (checks.length > MAX_CHECKS)
      throw new RangeError(`Cannot check ${checks.length} options: ${MAX_CHECKS} is the most`);
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
    this.#setChecks(CHECKS, checks);
    const [first, second] = [unixAddress(ends[0]), new TextEncoder().encode(ends[1])];
    bytes.set(first, ENDS);
    bytes.set(second, ENDS + END_BYTES);
    data.setUint32(ENDS_LENGTH, first.length | (second.length << 16), true);
  }

  #setChecks(start: number, checks: readonly OptionCheck[]): void {
    const { data, bytes } = this.#memory;
    for (const [index, { level, name, value }] of checks.entries()) {
      const at = start + index * CHECK_BYTES;
      for (const [field, number] of [level, name, value.length].entries()) data.setInt32(at + field * 4, number, true);
      bytes.set(value.subarray(0, CHECK_BYTES - CHECK_VALUE), at + CHECK_VALUE);
    }
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
    return this.#read(check(this.#serve(this.#memory.address), "ioctl SECCOMP_IOCTL_NOTIF_RECV"));
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
    const fd = new OwnedFd(data.getInt32(FD, true));
    const target = data.getInt32(TARGET, true);
    if (result === 4) return { kind: "unanswered", target, fd };
    if (result === 5) {
      const peer = bytes.slice(NAME, NAME + Math.min(data.getUint32(NAME_LENGTH, true), NAME_LENGTH - NAME));
      return { kind: "taken", call: readNotification(), listener: target, fd, address: peer };
    }
    return { kind: "still held", call: readNotification(), target, fd, from: data.getInt32(FROM, true) };
  }

  /** @returns false where it does not fit; undefined takes it out */
  setTarget(index: number, target: TrapTarget | undefined): boolean {
    const at = TARGETS + index * TARGET_BYTES;
    const { data, bytes } = this.#memory;
    data.setUint32(at + USED, 0, true);
    if (target === undefined) return true;
    const path = unixAddress(target.path);
    const [head, tail] = [unixAddress(target.head).subarray(2), new TextEncoder().encode(target.tail)];
    if (target.host.length !== 4 || head.length > NAME_BYTES || tail.length > NAME_BYTES) return false;
    data.setUint16(at, 2, true); // AF_INET
    data.setUint16(at + 2, target.port);
    bytes.set(target.host, at + 4);
    bytes.set(path, at + PATH);
    bytes.set(head, at + HEAD);
    bytes.set(tail, at + TAIL);
    data.setUint32(at + PATH_LENGTH, path.length, true);
    data.setUint32(at + HEAD_LENGTH, head.length, true);
    data.setUint32(at + TAIL_LENGTH, tail.length, true);
    data.setUint32(at + USED, 1, true);
    return true;
  }

  /** What has been read of /proc of a thread in that place is kept: release() first for another thread.
   *  @param pidfd  lent until releaseThread() */
  setThread(index: number, tid: number, pidfd: BorrowedFd): void {
    const at = THREADS + index * THREAD_BYTES;
    const { data } = this.#memory;
    data.setInt32(at + PIDFD, pidfd.number, true);
    data.setInt32(at + EPOLL_COUNT, -1, true);
    data.setInt32(at + USED_THREAD, 0, true);
    data.setInt32(at, tid, true);
  }

  /** The epoll sets of a thread: its connect() is left until they are known. @returns whether that fits */
  setEpolls(index: number, epolls: readonly number[] | undefined): boolean {
    const at = THREADS + index * THREAD_BYTES;
    const { data } = this.#memory;
    const fits = epolls !== undefined && epolls.length <= MAX_EPOLLS;
    data.setInt32(at + EPOLL_COUNT, fits ? epolls.length : -1, true);
    if (fits) for (const [place, number] of epolls.entries()) data.setInt32(at + EPOLLS + place * 4, number, true);
    return fits;
  }

  /** Whether a thread has connected to a target since the last time that this was asked. */
  takeUsed(index: number): boolean {
    const at = THREADS + index * THREAD_BYTES + USED_THREAD;
    const isUsed = this.#memory.data.getInt32(at, true) !== 0;
    this.#memory.data.setInt32(at, 0, true);
    return isUsed;
  }

  /** Forgets a thread and closes what was open of it. */
  releaseThread(index: number): void {
    const { data } = this.#memory;
    data.setInt32(THREADS + index * THREAD_BYTES, 0, true);
    const at = THREADS + index * THREAD_BYTES + FDINFO;
    for (let place = at; place < at + MAX_NUMBERS * 4; place += 4) {
      const file = data.getInt32(place, true);
      if (file === 0) continue;
      calls.close(file);
      data.setInt32(place, 0, true);
      data.setInt32(KEPT, data.getInt32(KEPT, true) - 1, true);
    }
  }

  /** @returns false where it does not fit; undefined takes it out */
  setListener(index: number, listener: TrapListener | undefined): boolean {
    const at = LISTENERS + index * LISTENER_BYTES;
    const { data, bytes } = this.#memory;
    data.setUint32(at + LISTENER_USED, 0, true);
    this.#mapCounters(index, listener?.counters);
    if (listener === undefined) return true;
    const { cookie, address, client, options } = listener;
    const isLong = options.some(({ value }) => value.length > CHECK_BYTES - CHECK_VALUE);
    if (options.length > MAX_OPTIONS || isLong || client.length > 32) return false;
    const path = unixAddress(address);
    data.setBigUint64(at, cookie, true);
    data.setUint32(at + OPTION_COUNT, options.length, true);
    data.setUint32(at + ADDRESS_LENGTH, client.length, true);
    data.setUint32(at + LISTENER_PATH_LENGTH, path.length, true);
    bytes.set(client, at + LISTENER_ADDRESS);
    bytes.set(path, at + LISTENER_PATH);
    this.#setChecks(at + LISTENER_OPTIONS, options);
    data.setUint32(at + LISTENER_USED, 1, true);
    return true;
  }

  /** A mapping of our own, so that whoever made the file may close it. */
  #mapCounters(index: number, file: BorrowedFd | undefined): void {
    const { data } = this.#memory;
    const at = COUNTERS + index * 8;
    const known = Number(data.getBigUint64(at, true));
    if (known !== 0) calls.munmap(known, PAGE_BYTES);
    const mapped =
      file === undefined ? 0 : calls.mmap(0, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, file.number, 0);
    data.setBigUint64(at, BigInt(Math.max(mapped, 0)), true);
  }

  /** Sockets that are left. @returns false where there are too many: nothing may be served then */
  setTouched(cookies: ReadonlySet<bigint>): boolean {
    if (cookies.size > MAX_TOUCHED) return false;
    const { data } = this.#memory;
    let at = TOUCHED;
    for (const cookie of cookies) {
      data.setBigUint64(at, cookie, true);
      at += 8;
    }
    data.setInt32(TOUCHED_COUNT, cookies.size, true);
    return true;
  }

  [Symbol.dispose](): void {
    for (let index = 0; index < MAX_THREADS; index++) this.releaseThread(index);
    for (let index = 0; index < MAX_LISTENERS; index++) this.setListener(index, undefined);
  }
}

/**
 * The thread whose call is trapped: its descriptors and its memory. A notification names a thread by number, which may
 * be somebody else's by the time we look: after each look and before acting on it, ask `isWaiting()`.
 */
import { readFileSync } from "node:fs";
import {
  type BorrowedFd,
  constants,
  errno,
  isNotificationValid,
  type MemoryPart,
  type Notification,
  type OwnedFd,
  pidfdGetfd,
  pidfdOpen,
  readMemory,
  SyscallError,
  writeMemory,
} from "../../ffi/mod.ts";
import type { Fdinfo } from "./fdinfo.ts";

const { EBADF, ENOENT, ESRCH } = errno;

/** The call has gone: its thread was killed or a signal interrupted it. Nobody waits for an answer. */
export class CallGone extends Error {
  override readonly name = "CallGone";
}

/** Descriptors of threads, kept because most calls come from few threads. Bounded; the oldest goes first. */
export class PidfdCache implements Disposable {
  readonly #byThread: Map<number, OwnedFd> = new Map();
  readonly #limit: number;
  readonly #flags: number = hasThreadPidfds() ? constants.PIDFD_THREAD : 0;

  constructor(limit = 64) {
    this.#limit = limit;
  }

  /** Told before a descriptor is closed. */
  onDrop: (thread: number) => void = () => undefined;

  /** What get() has opened for that very thread. */
  known(thread: number): BorrowedFd | undefined {
    return this.#byThread.get(thread);
  }

  /** @throws SyscallError ESRCH */
  get(thread: number): BorrowedFd {
    const opener = this.#openerOf(thread);
    const known = this.#byThread.get(opener);
    if (known !== undefined) return known;
    const opened = pidfdOpen(opener, this.#flags);
    this.#byThread.set(opener, opened);
    if (this.#byThread.size > this.#limit) this.#drop(this.#byThread.keys().next().value ?? opener);
    return opened;
  }

  drop(thread: number): void {
    this.#drop(this.#openerOf(thread));
  }

  /** Before Linux 6.9 the leader's descriptor serves for all threads of a process, which is right unless one has unshared
   *  its descriptor table. It outlives a thread and does not tell whose the number is by then: nothing is kept under it. */
  #openerOf(thread: number): number {
    if (this.#flags !== 0) return thread;
    const leader = processOf(thread);
    if (leader !== thread) this.#drop(thread);
    return leader;
  }

  #drop(opener: number): void {
    this.onDrop(opener);
    this.#byThread.get(opener)?.close();
    this.#byThread.delete(opener);
  }

  [Symbol.dispose](): void {
    for (const opener of [...this.#byThread.keys()]) this.#drop(opener);
  }
}

/** PIDFD_THREAD is Linux 6.9. */
function hasThreadPidfds(): boolean {
  try {
    using _ours = pidfdOpen(process.pid, constants.PIDFD_THREAD);
    return true;
  } catch (error) {
    if (error instanceof SyscallError) return false;
    throw error;
  }
}

/** The process that a thread belongs to; the thread's own number when it has gone. */
export function processOf(thread: number): number {
  try {
    const match = /^Tgid:\s*(\d+)$/m.exec(readFileSync(`/proc/${thread}/status`, "latin1"));
    return match === null ? thread : Number(match[1]);
  } catch {
    return thread;
  }
}

export class Tracee {
  readonly thread: number;
  readonly #listener: BorrowedFd;
  readonly #id: bigint;
  readonly #pidfds: PidfdCache;
  readonly #fdinfo: Fdinfo;

  constructor(listener: BorrowedFd, { id, pid }: Notification, pidfds: PidfdCache, fdinfo: Fdinfo) {
    this.thread = pid;
    this.#listener = listener;
    this.#id = id;
    this.#pidfds = pidfds;
    this.#fdinfo = fdinfo;
  }

  get isWaiting(): boolean {
    return isNotificationValid(this.#listener, this.#id);
  }

  /** @throws CallGone */
  #confirm(): void {
    if (!this.isWaiting) throw new CallGone();
  }

  /** Duplicates descriptor `number` of the thread. The caller owns it and closes it soon: while it is open, a socket
   *  that its program closes stays alive. @returns undefined for EBADF @throws CallGone */
  descriptor(number: number): OwnedFd | undefined {
    const duplicate = this.#duplicate(number | 0);
    if (this.isWaiting) return duplicate;
    duplicate?.close();
    throw new CallGone();
  }

  #duplicate(number: number, isRetry = false): OwnedFd | undefined {
    try {
      return pidfdGetfd(this.#pidfds.get(this.thread), number);
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
      if (error.errno === EBADF) return undefined;
      if (error.errno !== ESRCH && error.errno !== ENOENT) throw error;
      this.#pidfds.drop(this.thread); // of a thread that has ended and whose number came back
      if (isRetry) throw new CallGone();
      return this.#duplicate(number, true);
    }
  }

  /** Reads exactly `lengthBytes`. @returns undefined where the memory is not all there (EFAULT) @throws CallGone */
  read(address: number, lengthBytes: number): Uint8Array<ArrayBuffer> | undefined {
    const bytes = this.peek(address, lengthBytes);
    this.#confirm();
    return bytes;
  }

  /** read() of what is used only for what is then written, which asks whether the call still waits. */
  peek(address: number, lengthBytes: number): Uint8Array<ArrayBuffer> | undefined {
    if (lengthBytes === 0) return new Uint8Array(0);
    const bytes = this.#access(() => readMemory(this.thread, address, lengthBytes));
    return bytes?.length === lengthBytes ? bytes : undefined;
  }

  /** Writes a result, in one or two parts; only into what the call itself would have written.
   *  @returns false for EFAULT @throws CallGone */
  write(...parts: readonly MemoryPart[]): boolean {
    this.#confirm();
    const wanted = parts.filter(({ bytes }) => bytes.length > 0);
    return this.#access(() => writeMemory(this.thread, wanted) ?? true) === true;
  }

  #access<T>(action: () => T): T | undefined {
    try {
      return action();
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
      if (error.errno === errno.EFAULT) return undefined;
      if (error.errno === ESRCH) throw new CallGone();
      throw error;
    }
  }

  /** The flags of open(2) as /proc shows them: O_NONBLOCK, O_ASYNC, and O_CLOEXEC of this descriptor.
   *  @returns undefined where it is closed or the thread has gone */
  descriptorFlags(number: number): number | undefined {
    return this.#fdinfo.flags(this.thread, number | 0);
  }
}

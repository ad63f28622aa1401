/**
 * Wakes this thread when it sleeps in the seccomp listener and something else is to be done: a thread in machine code
 * (machine/trap-waker.c) that waits for that. On x86-64 alone, and only where the listener itself says that the last
 * program has ended. SIGURG does nothing in this process while there is one.
 */
import { release } from "node:os";
import { calls } from "../calls.ts";
import { ARCH, installEntry } from "../code-page.ts";
import { SyscallError } from "../errno.ts";
import type { BorrowedFd, OwnedFd } from "../fd.ts";
import { CODE_HEX, START_OFFSET } from "../machine/trap-waker.gen.ts";
import { allocateForever, type NativeMemory } from "../memory.ts";
import { epollAdd, epollRemove } from "../sys/epoll.ts";
import { pipe } from "../sys/io.ts";

// struct waker
const [WAKER_BYTES, OTHERS] = [4160, 16];
const [STATE, ENDING] = [0, 4];
const [FUTEX_WAIT_PRIVATE, FUTEX_WAKE_PRIVATE] = [128, 129];

let startFunction: ((waker: number) => number) | undefined;

export class TrapWaker implements Disposable {
  readonly #memory: NativeMemory;
  readonly #words: Int32Array;
  /** An epoll set. */
  readonly #others: BorrowedFd;

  /** Use start(). */
  constructor(memory: NativeMemory, others: BorrowedFd) {
    this.#memory = memory;
    this.#words = new Int32Array(memory.bytes.buffer, memory.bytes.byteOffset, 4);
    this.#others = others;
  }

  /** @param others  an epoll set that can be read when this thread has something else to do; open until the end of the waker
   *  @returns undefined where there can be none: sleeping in the listener is no good then */
  static start(others: BorrowedFd): TrapWaker | undefined {
    if (ARCH !== "x64" || !hasReceiveEnd(release())) return undefined;
    startFunction ??= installEntry(CODE_HEX, START_OFFSET);
    const memory = allocateForever(WAKER_BYTES);
    memory.data.setInt32(OTHERS, others.number, true);
    return startFunction(memory.address) < 0 ? undefined : new TrapWaker(memory, others);
  }

  /** Of its struct. */
  get address(): number {
    return this.#memory.address;
  }

  /** Ends the thread, and waits for that; without a descriptor for it, the thread goes with the process. Safe to call twice. */
  [Symbol.dispose](): void {
    if (Atomics.load(this.#words, STATE) >= ENDING) return;
    Atomics.store(this.#words, STATE, ENDING);
    calls.futex(this.#memory.address, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
    using end = endOfPipe(); // can be read: the thread sleeps until something can
    if (end === undefined) return;
    epollAdd(this.#others, end, 0, 0);
    while (Atomics.load(this.#words, STATE) === ENDING) {
      calls.futex(this.#memory.address, FUTEX_WAIT_PRIVATE, ENDING, 0, 0, 0);
    }
    epollRemove(this.#others, end);
  }
}

function endOfPipe(): OwnedFd | undefined {
  try {
    const { reader, writer } = pipe(0);
    writer.close();
    return reader;
  } catch (error) {
    if (error instanceof SyscallError) return undefined; // EMFILE, ENFILE
    throw error;
  }
}

/** Whether SECCOMP_IOCTL_NOTIF_RECV ends with the last program: since Linux 6.11. @param release  as of uname(2) */
export function hasReceiveEnd(release: string): boolean {
  const [major = 0, minor = 0] = release.split(".").map(Number.parseFloat);
  return major > 6 || (major === 6 && minor >= 11);
}

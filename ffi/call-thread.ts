/**
 * A thread in machine code (machine/call-thread.c) that makes system calls which may take for ever, such as close(2) of a
 * file whose server does not answer: who asks for them goes on at once. It shares memory and descriptors with us and has
 * nothing to do with the runtime. On x86-64 alone.
 *
 * Threads are used again and never ended: one that hangs in a call could not be, and one that sleeps costs a stack of the
 * kernel's and 8 KiB of ours. They go with the process.
 */
import { calls } from "./calls.ts";
import { ARCH, installEntry } from "./code-page.ts";
import { CODE_HEX, START_OFFSET } from "./machine/call-thread.gen.ts";
import { allocateForever, type NativeMemory } from "./memory.ts";
import { SYMBOLS } from "./symbols.ts";

// struct thread
const THREAD_BYTES = 8208;
const [BUSY, COUNT] = [0, 1]; // words
const [CALLS_AT, CALL_BYTES, MAX_CALLS] = [16, 64, 64];
const [NUMBER, FIRST_ARGUMENT] = [0, 8];
const [FUTEX_WAIT_PRIVATE, FUTEX_WAKE_PRIVATE] = [128, 129];

let startFunction: ((thread: number) => number) | undefined;
const TIMEOUT = allocateForever(16); // struct timespec
/** Threads that nobody uses at the moment; those that hang are taken when they have come back. */
const unused: CallThread[] = [];
/** Of a thread that could not be made. */
let spare: NativeMemory | undefined;

export class CallThread {
  /** How many calls it takes at once. */
  static readonly MAX_CALLS: number = MAX_CALLS;
  readonly #memory: NativeMemory;
  readonly #words: Int32Array;

  /** Use start(). */
  constructor(memory: NativeMemory) {
    this.#memory = memory;
    this.#words = new Int32Array(memory.bytes.buffer, memory.bytes.byteOffset, 4);
  }

  /** @returns one that has nothing to do; undefined where there is no machine code, or the system has no room for a thread */
  static start(): CallThread | undefined {
    const index = unused.findIndex((thread) => !thread.isBusy);
    if (index >= 0) return unused.splice(index, 1)[0];
    if (ARCH !== "x64") return undefined;
    startFunction ??= installEntry(CODE_HEX, START_OFFSET);
    const memory = spare ?? allocateForever(THREAD_BYTES);
    spare = startFunction(memory.address) < 0 ? memory : undefined;
    return spare === undefined ? new CallThread(memory) : undefined;
  }

  /** Whether it is still at what it was given. */
  get isBusy(): boolean {
    return Atomics.load(this.#words, BUSY) !== 0;
  }

  /** Closes descriptors, one after the other; from now on they are not ours. At most MAX_CALLS, and not while it is busy. */
  close(numbers: readonly number[]): void {
    if (this.isBusy || numbers.length > MAX_CALLS) throw new TypeError("Cannot give a thread more than it can do");
    const { data } = this.#memory;
    for (const [index, number] of numbers.entries()) {
      const at = CALLS_AT + index * CALL_BYTES;
      data.setInt32(at + NUMBER, SYMBOLS.close.nr.x64, true);
      data.setInt32(at + FIRST_ARGUMENT, number, true);
    }
    this.#words[COUNT] = numbers.length;
    Atomics.store(this.#words, BUSY, 1);
    calls.futex(this.#memory.address, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
  }

  /** Sleeps until it has nothing to do any more, at most so long. */
  wait(timeoutMs: number): void {
    TIMEOUT.data.setUint32(0, Math.floor(timeoutMs / 1000), true);
    TIMEOUT.data.setUint32(8, (timeoutMs % 1000) * 1e6, true);
    calls.futex(this.#memory.address, FUTEX_WAIT_PRIVATE, 1, TIMEOUT.address, 0, 0);
  }

  /** Somebody else may have it from now on, when it has come back. */
  giveBack(): void {
    unused.push(this);
  }
}

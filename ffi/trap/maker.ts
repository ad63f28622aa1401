/**
 * Makes sockets for who connects before they are needed: a thread in machine code (machine/trap-maker.c), which has another
 * processor do that. Pays where connections come in numbers. On x86-64 alone.
 */
import { availableParallelism } from "node:os";
import { calls } from "../calls.ts";
import { ARCH, installEntry } from "../code-page.ts";
import { closeNow } from "../fd.ts";
import { CODE_HEX, START_OFFSET } from "../machine/trap-maker.gen.ts";
import { allocateForever, type NativeMemory } from "../memory.ts";

// struct maker
const [MAKER_BYTES, MADE_COUNT, READY_COUNT, KEY] = [4608, 212, 280, 348];
const [STATE, WORKING, ENDING, ENDED] = [0, 1, 2, 3];
const [FUTEX_WAIT_PRIVATE, FUTEX_WAKE_PRIVATE] = [128, 129];

let startFunction: ((maker: number) => number) | undefined;

export class TrapMaker implements Disposable {
  readonly #memory: NativeMemory;
  readonly #words: Int32Array;

  /** Use start(). */
  constructor(memory: NativeMemory) {
    this.#memory = memory;
    this.#words = new Int32Array(memory.bytes.buffer, memory.bytes.byteOffset, 4);
  }

  /** @returns undefined where there can be none, or it would have no other processor than ours */
  static start(): TrapMaker | undefined {
    if (ARCH !== "x64" || availableParallelism() < 2) return undefined;
    startFunction ??= installEntry(CODE_HEX, START_OFFSET);
    const memory = allocateForever(MAKER_BYTES);
    return startFunction(memory.address) < 0 ? undefined : new TrapMaker(memory);
  }

  /** Of its struct. */
  get address(): number {
    return this.#memory.address;
  }

  /** Closes what was made and not used. Nobody may connect meanwhile. */
  clear(): void {
    this.#waitWhile(WORKING);
    const { data, bytes } = this.#memory;
    for (const list of [MADE_COUNT, READY_COUNT]) {
      const count = data.getInt32(list, true);
      for (let index = 1; index <= count; index++) {
        const number = data.getInt32(list + 4 * index, true);
        if (number >= 0) closeNow(number);
      }
      data.setInt32(list, 0, true);
    }
    bytes.fill(0, KEY, KEY + 8);
  }

  #waitWhile(state: number): void {
    while (Atomics.load(this.#words, STATE) === state)
      calls.futex(this.#memory.address, FUTEX_WAIT_PRIVATE, state, 0, 0, 0);
  }

  /** Ends the thread, and waits for that. Safe to call twice. */
  [Symbol.dispose](): void {
    if (Atomics.load(this.#words, STATE) === ENDED) return;
    this.clear();
    Atomics.store(this.#words, STATE, ENDING);
    calls.futex(this.#memory.address, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
    this.#waitWhile(ENDING);
  }
}

/**
 * Reading what the other side writes, through a read-only mapping, in order.
 *
 * JavaScriptCore (Bun) compiles Atomics.load as a read-modify-write instruction, which faults on a page mapped for
 * reading only. There a plain load does it, kept in its place by fence(). V8 compiles Atomics.load as a load, which
 * orders what follows it, and needs no fence.
 */
import { SCRATCH } from "./layout.ts";

const ATOMIC_LOAD_WRITES: boolean = "Bun" in globalThis;
/** x86 makes loads in the order of the program (Intel SDM volume 3, 9.2.2), so that only the compiler must be held. */
const LOADS_IN_ORDER: boolean = process.arch === "x64";

/** One word of the peer's page, read once. Call fence() before reading what the word published. */
export function peerLoad(words: Int32Array, index: number): number {
  return ATOMIC_LOAD_WRITES ? (words[index] as number) : Atomics.load(words, index);
}

/**
 * Nothing after it is read before what came before it, and nothing is taken from an earlier read.
 *
 * A store into an Int32Array makes the compiler forget what it read from others, because they may be the same memory; an
 * atomic operation is a barrier for the processor as well. It costs a third of a round trip, so not where it is not needed.
 * @param own  words of our own ring
 */
export function fence(own: Int32Array): void {
  if (!ATOMIC_LOAD_WRITES) return;
  if (LOADS_IN_ORDER) own[SCRATCH] = 0;
  else Atomics.load(own, SCRATCH);
}

/**
 * Reading what the other side writes, through a read-only mapping, in order.
 *
 * JavaScriptCore (Bun) compiles Atomics.load as a read-modify-write instruction, which faults on a page mapped for
 * reading only. There a plain load does it, kept in its place by fence(): an atomic operation on a word of our own
 * page, which is a full barrier and makes the compiler read memory anew. V8 compiles Atomics.load as a load, which
 * orders what follows it, and needs no fence.
 */
import { SCRATCH } from "./layout.ts";

const ATOMIC_LOAD_WRITES: boolean = "Bun" in globalThis;

/** One word of the peer's page, read once. Call fence() before reading what the word published. */
export function peerLoad(words: Int32Array, index: number): number {
  return ATOMIC_LOAD_WRITES ? (words[index] as number) : Atomics.load(words, index);
}

/** Nothing after it is read before what came before it. @param own  words of our own ring */
export function fence(own: Int32Array): void {
  if (ATOMIC_LOAD_WRITES) Atomics.load(own, SCRATCH);
}

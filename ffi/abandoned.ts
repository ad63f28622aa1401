/**
 * Memory that is closed while somebody may still be at it: a view of it was handed out, and a thread of the runtime's
 * compresses it, say, or fills it, which detaching does not stop. Zero pages that belong to nobody and cost no memory take
 * its place at once: such a thread finds no fault there, nothing of the ring, and nothing of what is mapped next. The
 * addresses are given back when no view is left.
 */
import { calls } from "./calls.ts";
import { MAP_ANONYMOUS, MAP_FIXED, MAP_NORESERVE, MAP_PRIVATE, PROT_READ, PROT_WRITE } from "./constants.ts";
import { backend } from "./load.ts";

type Range = { readonly address: number; readonly length: number };

/** Some jobs hold on to the memory and not to its view (Deno's), so the last ranges that were collected wait a while. */
const KEPT_RANGES = 32;
const FIRST_WAIT_MS = 1;
const LONGEST_WAIT_MS = 2 ** 30;

const kept: Range[] = [];
const collected = new FinalizationRegistry<Range>((range) => {
  kept.push(range);
  const oldest = kept.length > KEPT_RANGES ? kept.shift() : undefined;
  if (oldest !== undefined) calls.munmap(oldest.address, oldest.length);
});

/** Puts zero pages where `buffer` lies, and detaches it: now, or when the runtime's jobs have let go of it. */
export function abandon(buffer: ArrayBuffer, address: number, length: number): void {
  const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
  // With too many mappings this fails, and what was there stays: a sealed file, which cannot fault either.
  calls.mmap(address, length, PROT_READ | PROT_WRITE, flags, -1, 0);
  detachSoon(buffer, { address, length }, FIRST_WAIT_MS);
}

/** JavaScriptCore refuses while a native job uses the memory, and says nothing when that is over. */
function detachSoon(buffer: ArrayBuffer, range: Range, waitMs: number): void {
  if (buffer.byteLength === 0) return; // it was given to another thread, with all its views: nobody can tell how long those live
  if (backend.detach(buffer)) return collected.register(buffer, range);
  if (waitMs > LONGEST_WAIT_MS) return;
  const { setTimeout } = process.getBuiltinModule("node:timers");
  setTimeout(() => detachSoon(buffer, range, 2 * waitMs), waitMs).unref();
}

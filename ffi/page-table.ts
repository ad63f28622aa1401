/**
 * Single pages of many files, read-only and side by side: ten thousand pages cost ten thousand mappings in the kernel and
 * next to nothing here. A place without a page reads as zeroes, so no access can ever fault, as long as the files do not
 * shrink.
 *
 * They are copied from, and seen through no view: a runtime takes the length of a view for memory that is in use, and with
 * 80 MB of them collects so seldom that it costs more than what it looks after.
 */
import { calls } from "./calls.ts";
import { MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED, PROT_READ } from "./constants.ts";
import { SyscallError } from "./errno.ts";
import type { BorrowedFd } from "./fd.ts";
import { backend } from "./load.ts";

const PAGE_BYTES = 4096;
const BLOCK_PAGES = 1024;
const MAP_FIXED = 0x10;
const MAP_NORESERVE = 0x4000;

/** memcpy(3). Nobody wants its result, and a small one costs nothing to hand over. */
const copy = backend.library("memcpy", { args: ["view", "address", "i64"], result: "i32" });

/** For as long as the process lives; places are used again. */
export class PageTable {
  /** Where each block of places begins. */
  readonly #blocks: number[] = [];
  readonly #free: number[] = [];
  #next = 0;

  /** Maps the page of `fd` at `offset`, a multiple of 4096. @returns its place, for read() and remove()
   *  @throws SyscallError ENOMEM with too many mappings */
  add(fd: BorrowedFd, offset: number): number {
    const place = this.#free.pop() ?? this.#next++;
    const result = calls.mmap(this.#address(place), PAGE_BYTES, PROT_READ, MAP_SHARED | MAP_FIXED, fd.number, offset);
    if (result >= 0) return place;
    this.#free.push(place);
    throw new SyscallError("mmap", -result, `fd ${fd.number}`);
  }

  /** Copies the first words of a page; what another process writes meanwhile may show in some of them. */
  read(place: number, words: Int32Array): void {
    copy(words, this.#address(place), Math.min(words.byteLength, PAGE_BYTES));
  }

  remove(place: number): void {
    cover(this.#address(place), PAGE_BYTES, MAP_FIXED);
    this.#free.push(place);
  }

  #address(place: number): number {
    const index = Math.floor(place / BLOCK_PAGES);
    const block = this.#blocks[index] ?? newBlock();
    this.#blocks[index] = block;
    return block + (place % BLOCK_PAGES) * PAGE_BYTES;
  }
}

function newBlock(): number {
  const bytes = BLOCK_PAGES * PAGE_BYTES;
  const address = cover(0, bytes, 0);
  if (address < 0) throw new SyscallError("mmap", -address, `${bytes} bytes`);
  return address;
}

/** Private zero pages that cost nothing. */
function cover(address: number, length: number, flags: number): number {
  return calls.mmap(address, length, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags, -1, 0);
}

/**
 * Single pages of many files, read-only and side by side, under few views: ten thousand pages cost ten thousand mappings
 * in the kernel and next to nothing here. A place without a page reads as zeroes, so no access can ever fault, as long as
 * the files do not shrink.
 */
import { calls } from "./calls.ts";
import { MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED, PROT_READ } from "./constants.ts";
import { SyscallError } from "./errno.ts";
import type { BorrowedFd } from "./fd.ts";
import { backend } from "./load.ts";

const PAGE_BYTES = 4096;
const PAGE_WORDS = PAGE_BYTES / 4;
const BLOCK_PAGES = 1024;
const MAP_FIXED = 0x10;
const MAP_NORESERVE = 0x4000;

type Block = { readonly address: number; readonly words: Int32Array };

/** For as long as the process lives; places are used again. */
export class PageTable {
  readonly #blocks: Block[] = [];
  readonly #free: number[] = [];
  #next = 0;

  /** Maps the page of `fd` at `offset`, a multiple of 4096. @returns its place, for words() and remove()
   *  @throws SyscallError ENOMEM with too many mappings */
  add(fd: BorrowedFd, offset: number): number {
    const place = this.#free.pop() ?? this.#next++;
    const result = calls.mmap(this.#address(place), PAGE_BYTES, PROT_READ, MAP_SHARED | MAP_FIXED, fd.number, offset);
    if (result >= 0) return place;
    this.#free.push(place);
    throw new SyscallError("mmap", -result, `fd ${fd.number}`);
  }

  /** Words of many pages, among them those of this one; what another process writes shows in them. */
  words(place: number): Int32Array {
    return this.#block(place).words;
  }

  /** Where the page begins in words(). */
  offsetWords(place: number): number {
    return (place % BLOCK_PAGES) * PAGE_WORDS;
  }

  remove(place: number): void {
    cover(this.#address(place), PAGE_BYTES, MAP_FIXED);
    this.#free.push(place);
  }

  #address(place: number): number {
    return this.#block(place).address + (place % BLOCK_PAGES) * PAGE_BYTES;
  }

  #block(place: number): Block {
    const index = Math.floor(place / BLOCK_PAGES);
    const block = this.#blocks[index] ?? newBlock();
    this.#blocks[index] = block;
    return block;
  }
}

function newBlock(): Block {
  const bytes = BLOCK_PAGES * PAGE_BYTES;
  const address = cover(0, bytes, 0);
  if (address < 0) throw new SyscallError("mmap", -address, `${bytes} bytes`);
  return { address, words: new Int32Array(backend.view(address, bytes)) };
}

/** Private zero pages that cost nothing. */
function cover(address: number, length: number, flags: number): number {
  return calls.mmap(address, length, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags, -1, 0);
}

/**
 * A region of mapped memory that cannot be touched after it is closed: close() first detaches the one ArrayBuffer that
 * every view is made from, so a late access sees an empty array or throws, and only then unmaps. Where that is not
 * enough, or not possible, nothing is unmapped yet (abandoned.ts).
 */
import { abandon } from "./abandoned.ts";
import { calls } from "./calls.ts";
import {
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_NORESERVE,
  MAP_PRIVATE,
  MAP_SHARED,
  PROT_NONE,
  PROT_READ,
  PROT_WRITE,
} from "./constants.ts";
import { SyscallError } from "./errno.ts";
import type { BorrowedFd } from "./fd.ts";
import { backend } from "./load.ts";

const MADV_POPULATE_WRITE = 23; // linux/mman.h, since 5.14
const MADV_COLLAPSE = 25; // since 6.1; for memfds too, whatever /sys/kernel/mm/transparent_hugepage says
const HUGE_BYTES = 2 ** 21; // on x86-64, and on arm64 with pages of 4 KiB
const PAGE_BYTES = 4096;

export class Mapping implements Disposable {
  readonly length: number;
  #address: number;
  #buffer: ArrayBuffer | undefined;

  /** Use mapShared(). */
  constructor(address: number, length: number) {
    this.#address = address;
    this.length = length;
  }

  get closed(): boolean {
    return this.#address === 0;
  }

  /** The memory. Make views of it freely; all of them become empty at close().
   *  @throws Error when the mapping is closed */
  get buffer(): ArrayBuffer {
    if (this.closed) throw new Error("Cannot view a mapping: it is closed");
    this.#buffer ??= backend.view(this.#address, this.length);
    return this.#buffer;
  }

  /** Gives every page of a writable mapping its memory now, charged to us, so that no later store faults for it.
   *  @throws SyscallError ENOMEM, EFAULT; EINVAL before Linux 5.14 */
  populate(): void {
    const result = calls.madvise(this.#address, this.length, MADV_POPULATE_WRITE);
    if (result < 0) throw new SyscallError("madvise", -result, `${this.length} bytes`);
  }

  /** The same for its first `bytes`, as far as the kernel can and has memory: what is missing faults when it is touched. */
  touch(bytes: number): void {
    calls.madvise(this.#address, Math.min(bytes, this.length), MADV_POPULATE_WRITE);
  }

  /** Gives a writable mapping its memory now, in huge pages as far as it is long enough.
   *  @returns how many bytes are in huge pages; 0 where the kernel cannot, or finds no memory in one piece */
  collapse(): number {
    const whole = this.length - (this.length % HUGE_BYTES);
    if (whole > 0) calls.madvise(this.#address, this.length, MADV_POPULATE_WRITE); // what has no page yet is not collapsed
    return whole > 0 && calls.madvise(this.#address, whole, MADV_COLLAPSE) === 0 ? whole : 0;
  }

  /** Safe to call twice. @param isShown  views of it were handed to others, whose threads may be at them */
  close(isShown = false): void {
    const address = this.#leave(isShown);
    if (address !== 0) calls.munmap(address, this.length);
  }

  /** close() of two. It is one call where `other` lies right below, as mapShared() puts it if it can. */
  closeWith(other: Mapping, isShown = false): void {
    const above = this.#leave(isShown);
    const below = other.#leave(isShown);
    if (below !== 0 && above - below === wholePages(other.length)) {
      calls.munmap(below, above - below + this.length);
      return;
    }
    if (above !== 0) calls.munmap(above, this.length);
    if (below !== 0) calls.munmap(below, other.length);
  }

  /** @returns the address of what is to be unmapped now, 0 for nothing */
  #leave(isShown: boolean): number {
    const address = this.#address;
    if (address === 0) return 0;
    const buffer = this.#buffer;
    this.#address = 0;
    this.#buffer = undefined;
    if (buffer === undefined || (!isShown && backend.detach(buffer))) return address;
    abandon(buffer, address, this.length);
    return 0;
  }

  /** Where a mapping of `length` bytes ends right below this one; 0, which is nowhere, for one that is closed. */
  placeBelow(length: number): number {
    return Math.max(this.#address - wholePages(length), 0);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/**
 * Maps `length` bytes of `fd` from its start, shared with all who map the same file (mmap(2)).
 * @param access  "read-write" asks for a writable mapping: EPERM once F_SEAL_FUTURE_WRITE is set
 * @param above  right below which it goes if there is room, so that both can be closed together
 * @throws SyscallError EACCES, EPERM, ENOMEM
 */
export function mapShared(fd: BorrowedFd, length: number, access: "read" | "read-write", above?: Mapping): Mapping {
  const prot = access === "read" ? PROT_READ : PROT_READ | PROT_WRITE;
  const place = above === undefined ? 0 : above.placeBelow(length);
  const address =
    length < HUGE_BYTES ? calls.mmap(place, length, prot, MAP_SHARED, fd.number, 0) : mapAligned(fd, length, prot);
  if (address < 0) throw new SyscallError("mmap", -address, `fd ${fd.number}`);
  return new Mapping(address, length);
}

/** Maps where a huge page can begin: in both of two processes, or only the one that is aligned profits.
 *  @returns the address or a negative errno */
function mapAligned(fd: BorrowedFd, length: number, prot: number): number {
  const size = wholePages(length);
  const taken = size + HUGE_BYTES;
  const start = calls.mmap(0, taken, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (start < 0) return start;
  const aligned = Math.ceil(start / HUGE_BYTES) * HUGE_BYTES;
  const address = calls.mmap(aligned, length, prot, MAP_SHARED | MAP_FIXED, fd.number, 0);
  if (address < 0) {
    calls.munmap(start, taken);
    return address;
  }
  if (aligned > start) calls.munmap(start, aligned - start);
  calls.munmap(aligned + size, start + taken - aligned - size);
  return address;
}

function wholePages(length: number): number {
  return Math.ceil(length / PAGE_BYTES) * PAGE_BYTES;
}

/**
 * Sockets whose options are not as they were born, by SO_COOKIE: a table that machine code looks into for each connect(),
 * and adds to itself when it lets a setsockopt(2) through (place_of() of machine/trap-look.h finds places in the same way).
 */
import { allocateForever, type NativeMemory } from "../memory.ts";

// struct trap_path
const [COUNT, TABLE, NOTED_OPTIONS, NOTED_COUNT, NOTED] = [64, 19_472, 19_480, 19_488, 19_496];
const [COOKIE_BITS, MOST_COOKIES] = [17n, 98_304];
const PLACES: number = 2 ** Number(COOKIE_BITS);
const HASH = 0x9e3779b97f4a7c15n;

export class TrapTouched {
  readonly #path: NativeMemory;
  /** The kernel gives it memory where it is written to. */
  readonly #table: BigUint64Array;

  /** @param options  at SOL_SOCKET: that they were set is noted */
  constructor(path: NativeMemory, options: readonly number[]) {
    const { address, bytes } = allocateForever(PLACES * 8);
    this.#path = path;
    this.#table = new BigUint64Array(bytes.buffer, bytes.byteOffset, PLACES);
    const mask = options.reduce((sum, name) => sum | (1n << BigInt(name)), 0n);
    path.data.setBigUint64(TABLE, BigInt(address), true);
    path.data.setBigUint64(NOTED_OPTIONS, mask, true);
  }

  get #count(): number {
    return this.#path.data.getInt32(COUNT, true);
  }

  set #count(value: number) {
    this.#path.data.setInt32(COUNT, value, true);
  }

  /** @returns false where there is no room: put() all that still counts, then */
  add(cookie: bigint): boolean {
    const place = this.#placeOf(cookie);
    if (this.#table[place] === cookie) return true;
    if (this.#count >= MOST_COOKIES) return false;
    this.#table[place] = cookie;
    this.#count += 1;
    return true;
  }

  /** Of a socket that will not connect any more: it may stay where taking it out would leave a gap. */
  remove(cookie: bigint): void {
    const place = this.#placeOf(cookie);
    const isLast = this.#table[(place + 1) % PLACES] === 0n;
    if (this.#table[place] !== cookie || !isLast) return;
    this.#table[place] = 0n;
    this.#count -= 1;
  }

  /** Those and no others; not more than half of what there is room for. */
  put(cookies: Iterable<bigint>): void {
    if (this.#count > 0) this.#table.fill(0n); // which makes the kernel give it all of its memory
    this.#count = 0;
    for (const cookie of cookies) this.add(cookie);
  }

  #placeOf(cookie: bigint): number {
    let place = Number(BigInt.asUintN(64, cookie * HASH) >> (64n - COOKIE_BITS));
    while (this.#table[place] !== 0n && this.#table[place] !== cookie) place = (place + 1) % PLACES;
    return place;
  }

  /** Calls `visit` for those that machine code has added since the last time. */
  takeNoted(visit: (cookie: bigint) => void): void {
    const { data } = this.#path;
    const count = data.getUint32(NOTED_COUNT, true);
    if (count === 0) return;
    data.setUint32(NOTED_COUNT, 0, true);
    for (let index = 0; index < count; index++) visit(data.getBigUint64(NOTED + index * 8, true));
  }
}

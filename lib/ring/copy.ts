/**
 * Copies between a caller's bytes and the ring. What was measured on Bun for 64 bytes: words, eight a turn, 5 ns; one
 * word a turn 12 ns; set() 18 ns; a loop over bytes 40 ns; set() of a subarray 55 ns; making a view 50 ns and more. So a
 * caller's buffer that comes again is looked at as words; above a few hundred bytes set() wins whatever it costs to call.
 */

import { hasPlainLength, lengthOf } from "./bytes.ts";
import type { FastPath } from "./fast-path.ts";

/** Messages shorter than this are copied word by word. A power of two. */
export const LOOP_BYTES = 256;
const NO_WORDS: Int32Array = new Int32Array(0);
const NO_BYTES: Uint8Array = new Uint8Array(0); // which no caller has

/** Copies `count` words; both ranges exist. JavaScriptCore neither unrolls nor vectorises, so this does. */
export function copyWords(from: Int32Array, source: number, to: Int32Array, target: number, count: number): void {
  let index = 0;
  for (const end = count & ~7; index < end; index = (index + 8) | 0) {
    const at = (source + index) | 0;
    const put = (target + index) | 0;
    let word = from[at] as number;
    to[put] = word;
    word = from[at + 1] as number;
    to[put + 1] = word;
    word = from[at + 2] as number;
    to[put + 2] = word;
    word = from[at + 3] as number;
    to[put + 3] = word;
    word = from[at + 4] as number;
    to[put + 4] = word;
    word = from[at + 5] as number;
    to[put + 5] = word;
    word = from[at + 6] as number;
    to[put + 6] = word;
    word = from[at + 7] as number;
    to[put + 7] = word;
  }
  for (; index < count; index = (index + 1) | 0) to[(target + index) | 0] = from[(source + index) | 0] as number;
}

/** The buffer a caller came with last, for one direction of copying: as words, or lent to the fast path. */
export class LastBuffer {
  /** Compare both before using `words` or what was lent: the length of a view changes when its buffer is resized or taken
   *  away. -1: neither. */
  bytes: Uint8Array = NO_BYTES;
  length = -1;
  words: Int32Array = NO_WORDS;

  /** Takes note of a buffer. @returns whether it has come the second time in a row, so that something may be made of it */
  isAgain(bytes: Uint8Array): boolean {
    if (bytes === this.bytes) return this.length !== bytes.length;
    this.bytes = bytes;
    this.length = -1;
    return false;
  }

  /** Lends it, if its length can be relied on. */
  lend(bytes: Uint8Array, fast: FastPath): void {
    if (hasPlainLength(bytes) && fast.lend("buffer", bytes)) this.length = lengthOf(bytes);
  }

  forget(): void {
    this.bytes = NO_BYTES;
    this.length = -1;
    this.words = NO_WORDS;
  }

  /** Makes a view of it, if it lies well. */
  view(bytes: Uint8Array): void {
    const length = lengthOf(bytes);
    if ((bytes.byteOffset & 3) !== 0 || length > MAX_VIEW_BYTES || !hasPlainLength(bytes)) return;
    this.words = new Int32Array(bytes.buffer, bytes.byteOffset, length >> 2);
    this.length = length;
  }
}

const MAX_VIEW_BYTES = 2 ** 30;

/** Copies `length` bytes of the ring at byte `offset` to the start of `to`, which has room. */
export function copyOut(ring: RingViews, offset: number, length: number, to: Uint8Array): void {
  if (length >= LOOP_BYTES || ((length | offset) & 3) !== 0) to.set(ring.bytes.subarray(offset, offset + length));
  else copyWordsToBytes(ring.words, offset >> 2, length >> 2, to);
}

type RingViews = { readonly words: Int32Array; readonly bytes: Uint8Array };

function copyWordsToBytes(ring: Int32Array, start: number, count: number, to: Uint8Array): void {
  for (let index = 0; index < count; index++) {
    const value = ring[start + index] as number;
    const at = index << 2;
    to[at] = value;
    to[at + 1] = value >> 8;
    to[at + 2] = value >> 16;
    to[at + 3] = value >> 24;
  }
}

/**
 * Copies between a caller's bytes and the ring. Short payloads go word by word in a loop, which the compiler turns
 * into a handful of moves; longer ones by set(), whose call costs more than it saves below a few hundred bytes.
 */
const LOOP_BYTES = 256; // measured on Bun: the loop wins below, set() above

/** Copies all of `from` to `to` at byte `offset`, a multiple of 8. Up to 3 bytes of padding after it are cleared. */
export function copyIn(words: Int32Array, to: Uint8Array, offset: number, from: Uint8Array): void {
  const length = from.length | 0;
  if (length > LOOP_BYTES) {
    to.set(from, offset);
    return;
  }
  const whole = length & ~3;
  let word = offset >> 2;
  let at = 0;
  for (; at < whole; at += 4, word++) {
    words[word] = at4(from, at);
  }
  if (at === length) return;
  let rest = 0;
  for (let shift = 0; at < length; at++, shift += 8) rest |= (from[at] as number) << shift;
  words[word] = rest;
}

function at4(from: Uint8Array, at: number): number {
  return (
    (from[at] as number) |
    ((from[at + 1] as number) << 8) |
    ((from[at + 2] as number) << 16) |
    ((from[at + 3] as number) << 24)
  );
}

/** Copies `length` bytes of the ring at byte `offset` to the start of `to`, which has room. */
export function copyOut(words: Int32Array, from: Uint8Array, offset: number, length: number, to: Uint8Array): void {
  if (length > LOOP_BYTES || (offset & 3) !== 0) {
    to.set(from.subarray(offset, offset + length));
    return;
  }
  const whole = length & ~3;
  let word = offset >> 2;
  let at = 0;
  for (; at < whole; at += 4, word++) {
    const value = words[word] as number;
    to[at] = value;
    to[at + 1] = value >> 8;
    to[at + 2] = value >> 16;
    to[at + 3] = value >> 24;
  }
  const rest = at < length ? (words[word] as number) : 0;
  for (let shift = 0; at < length; at++, shift += 8) to[at] = rest >> shift;
}

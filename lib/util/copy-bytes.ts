/** Bytes from one array to another. Few are copied one by one: that takes less than asking the runtime to. */

const FEW = 96;

/** @param to  with room for all of `from` at `at` */
export function copyBytes(from: Uint8Array, to: Uint8Array, at: number): void {
  const { length } = from;
  if (length > FEW) to.set(from, at);
  else for (let index = 0; index < length; index++) to[at + index] = from[index] as number;
}

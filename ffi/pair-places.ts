/**
 * Where to map the first of two files so that the second finds room right below it: the kernel by itself puts one mapping
 * right below the one before. What comes of it is a hint: where something else is by now, the kernel takes another place.
 */
import { calls } from "./calls.ts";
import { MAP_ANONYMOUS, MAP_NORESERVE, MAP_PRIVATE, PROT_NONE } from "./constants.ts";

/** Of pairs that have ended, for the next ones; the lower of both ends. */
const free: Map<number, number[]> = new Map();
const MOST_FREE = 64;

/** @param size  of each, whole pages  @returns where the first may go; 0 for anywhere */
export function placeForFirst(size: number): number {
  const address = free.get(size)?.pop() ?? findRoom(2 * size);
  return address > 0 ? address + size : 0;
}

function findRoom(size: number): number {
  const address = calls.mmap(0, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (address > 0) calls.munmap(address, size);
  return address;
}

/** Both are gone. @param address  of the second, the lower one */
export function givePlace(address: number, size: number): void {
  const places = free.get(size);
  if (places === undefined) free.set(size, [address]);
  else if (places.length < MOST_FREE) places.push(address);
}

/** One descriptor for several who each close it when they are done: a second one would cost two system calls more. */
import { closeNow, OwnedFd } from "../../ffi/mod.ts";

/** @param fd  taken; closed when all have closed theirs. Whoever duplicates his has a descriptor of his own */
export function shareFd(fd: OwnedFd, count: number): OwnedFd[] {
  const { number } = fd;
  let left = count;
  const closeOne = (closed: number): void => {
    if (closed !== number) return closeNow(closed);
    left -= 1;
    if (left === 0) fd.close();
  };
  const shares: OwnedFd[] = [];
  while (shares.length < count) shares.push(new OwnedFd(number, closeOne));
  return shares;
}

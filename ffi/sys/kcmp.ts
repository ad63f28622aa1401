/** kcmp(2): whether descriptors of other processes mean the same open file, without looking at names in /proc. */
import { calls } from "../calls.ts";
import { check, EBADF, EINVAL, ENOENT } from "../errno.ts";
import type { BorrowedFd } from "../fd.ts";
import { allocateForever } from "../memory.ts";

// linux/kcmp.h
const KCMP_FILE = 0;
const KCMP_EPOLL_TFD = 7;
const SLOT = allocateForever(12); // struct kcmp_epoll_slot: u32 efd, tfd, toff

const SELF = process.pid;

/** Whether `number` in `thread` is the open file that `fd` is; false for a number that is not open.
 *  @throws SyscallError EPERM, ESRCH, ENOSYS */
export function isSameFile(fd: BorrowedFd, thread: number, number: number): boolean {
  const result = calls.kcmp(SELF, thread, KCMP_FILE, fd.number, number);
  return result !== -EBADF && check(result, "kcmp", String(thread)) === 0;
}

/** "other": `epoll` in `thread` is no epoll set, or not open. "without": no file is registered under `number`. */
export type EpollHolding = "other" | "without" | "with";

/** What an epoll set of `thread` has registered under `number`. @param fd  any descriptor of ours
 *  @throws SyscallError EPERM, ESRCH, ENOSYS */
export function epollHolding(fd: BorrowedFd, thread: number, epoll: number, number: number): EpollHolding {
  SLOT.data.setUint32(0, epoll, true);
  SLOT.data.setUint32(4, number, true);
  const result = calls.kcmp(SELF, thread, KCMP_EPOLL_TFD, fd.number, SLOT.address);
  if (result === -EINVAL || result === -EBADF) return "other";
  if (result === -ENOENT) return "without";
  check(result, "kcmp", String(thread));
  return "with";
}

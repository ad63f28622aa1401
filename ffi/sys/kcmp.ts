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

/** "closed": `epoll` in `thread` is not open; "other": it is no epoll set. "without": no file is registered there under
 *  `number`. */
export type EpollHolding = "closed" | "other" | "without" | "with";

/** What an epoll set of `thread` has registered under `number`. @param fd  any descriptor of ours
 *  @throws SyscallError EPERM, ESRCH, ENOSYS */
export function epollHolding(fd: BorrowedFd, thread: number, epoll: number, number: number): EpollHolding {
  SLOT.data.setUint32(0, epoll, true);
  SLOT.data.setUint32(4, number, true);
  const result = calls.kcmp(SELF, thread, KCMP_EPOLL_TFD, fd.number, SLOT.address);
  if (result === -EBADF) return "closed";
  if (result === -EINVAL) return "other";
  if (result === -ENOENT) return "without";
  check(result, "kcmp", String(thread));
  return "with";
}

/** Whether an epoll set of ours still has a file that was registered under `number`: it forgets a file once nobody
 *  holds it, in whatever process. @throws SyscallError ENOSYS */
export function isStillHeld(epoll: BorrowedFd, number: number): boolean {
  SLOT.data.setUint32(0, epoll.number, true);
  SLOT.data.setUint32(4, number, true);
  const result = calls.kcmp(SELF, SELF, KCMP_EPOLL_TFD, epoll.number, SLOT.address);
  return result !== -ENOENT && check(result, "kcmp") >= 0;
}

/** Whether `each` in `thread` is the file that an epoll set of ours has registered under `number`.
 *  @throws SyscallError EPERM, ESRCH, ENOSYS */
export function isRegisteredFile(thread: number, each: number, epoll: BorrowedFd, number: number): boolean {
  SLOT.data.setUint32(0, epoll.number, true);
  SLOT.data.setUint32(4, number, true);
  const result = calls.kcmp(thread, SELF, KCMP_EPOLL_TFD, each, SLOT.address);
  return result !== -EBADF && result !== -ENOENT && check(result, "kcmp", String(thread)) === 0;
}

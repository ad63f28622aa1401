/** inotify(7): what happens to a file, sockets included. */
import { calls } from "../calls.ts";
import { O_CLOEXEC, O_NONBLOCK } from "../constants.ts";
import { check, EINVAL } from "../errno.ts";
import { type BorrowedFd, OwnedFd } from "../fd.ts";
import { allocateForever, cString } from "../memory.ts";
import { read } from "./io.ts";

const BUFFER = allocateForever(4096);
const HEADER_BYTES = 16; // struct inotify_event without its name

/** Non-blocking, close-on-exec. @throws SyscallError EMFILE beyond fs.inotify.max_user_instances of this user */
export function inotifyInit(): OwnedFd {
  return new OwnedFd(check(calls.inotifyInit1(O_NONBLOCK | O_CLOEXEC), "inotify_init1"));
}

/** Watches the file behind an open descriptor without keeping it open: for a socket, IN_CLOSE_WRITE comes when the
 *  last descriptor in any process is closed. @returns the watch's number
 *  @throws SyscallError ENOSPC beyond fs.inotify.max_user_watches, ENOENT without /proc */
export function inotifyWatchFd(inotify: BorrowedFd, fd: BorrowedFd, mask: number): number {
  const path = cString(`/proc/self/fd/${fd.number}`);
  return check(calls.inotifyAddWatch(inotify.number, path, mask), "inotify_add_watch", `fd ${fd.number}`);
}

/** Ends a watch, which until then keeps what is left of its file, also when that is closed. Nothing where it has ended. */
export function inotifyUnwatch(inotify: BorrowedFd, watch: number): void {
  const result = calls.inotifyRmWatch(inotify.number, watch);
  if (result !== -EINVAL) check(result, "inotify_rm_watch");
}

/** The events at hand, oldest first, as many as a buffer holds; none when there are no more. */
export function readInotify(inotify: BorrowedFd): { readonly watch: number; readonly mask: number }[] {
  const count = read(inotify, BUFFER.bytes) ?? 0;
  const events: { watch: number; mask: number }[] = [];
  for (let at = 0; at + HEADER_BYTES <= count; ) {
    events.push({ watch: BUFFER.data.getInt32(at, true), mask: BUFFER.data.getUint32(at + 4, true) });
    at += HEADER_BYTES + BUFFER.data.getUint32(at + 12, true);
  }
  return events;
}

/** timerfd_create(2): a timer that is a descriptor. */
import { calls } from "../calls.ts";
import { CLOCK_BOOTTIME, O_CLOEXEC, O_NONBLOCK } from "../constants.ts";
import { check } from "../errno.ts";
import { type BorrowedFd, OwnedFd } from "../fd.ts";
import { allocateForever } from "../memory.ts";
import { TIMESPEC } from "../structs/event.ts";
import { setTimespec } from "./timespec.ts";

/** struct itimerspec: the interval, which stays zero, and the time until then. */
const TIME = allocateForever(TIMESPEC.size * 2);

/** Not set yet; readable once it has run out, until it is read or set again. It goes on while the machine is suspended, as
 *  performance.now() does on some runtimes: for the others it runs out early then, which is better than late. */
export function timerCreate(): OwnedFd {
  return new OwnedFd(check(calls.timerfdCreate(CLOCK_BOOTTIME, O_CLOEXEC | O_NONBLOCK), "timerfd_create"));
}

/** Runs out once, `delayMs` from now, and not as it was set before. A delay of 0 or less is the shortest there is. */
export function timerSet(timer: BorrowedFd, delayMs: number): void {
  setTimespec(TIME.data, TIMESPEC.size, delayMs, 1); // 0 would disarm it
  check(calls.timerfdSettime(timer.number, 0, TIME.address, 0), "timerfd_settime", `fd ${timer.number}`);
}

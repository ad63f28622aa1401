/** timerfd_create(2): a timer that is a descriptor. */
import { calls } from "../calls.ts";
import { CLOCK_MONOTONIC, O_CLOEXEC, O_NONBLOCK } from "../constants.ts";
import { check } from "../errno.ts";
import { type BorrowedFd, OwnedFd } from "../fd.ts";
import { allocateForever } from "../memory.ts";
import { TIMESPEC } from "../structs/event.ts";

/** struct itimerspec: the interval, which stays zero, and the time until then. */
const TIME = allocateForever(TIMESPEC.size * 2);
const SECONDS_AT = TIMESPEC.size + TIMESPEC.offsets.tv_sec;
const NANOSECONDS_AT = TIMESPEC.size + TIMESPEC.offsets.tv_nsec;

/** Not set yet; readable once it has run out, until it is read or set again. */
export function timerCreate(): OwnedFd {
  return new OwnedFd(check(calls.timerfdCreate(CLOCK_MONOTONIC, O_CLOEXEC | O_NONBLOCK), "timerfd_create"));
}

/** Runs out once, `delayMs` from now, and not as it was set before. A delay of 0 or less is the shortest there is. */
export function timerSet(timer: BorrowedFd, delayMs: number): void {
  const seconds = Math.floor(Math.max(delayMs, 0) / 1000);
  TIME.data.setUint32(SECONDS_AT, seconds, true); // the upper halves stay zero
  TIME.data.setUint32(NANOSECONDS_AT, Math.max(1, (delayMs - seconds * 1000) * 1e6), true); // 0 would disarm it
  check(calls.timerfdSettime(timer.number, 0, TIME.address, 0), "timerfd_settime", `fd ${timer.number}`);
}

/** struct timespec (timespec(3type)) of a length of time. */
import { TIMESPEC } from "../structs/event.ts";

const { tv_sec: SECONDS, tv_nsec: NANOSECONDS } = TIMESPEC.offsets;
const MAX_SECONDS = 0x7fffffff; // 68 years; more would be taken modulo 2^32

/** Writes it at byte `at`, where the upper halves are zero and stay it. @param milliseconds  below 0 is 0
 *  @param leastNs  0 to 999,999,999: no shorter than that */
export function setTimespec(data: DataView, at: number, milliseconds: number, leastNs = 0): void {
  const time = Math.min(Math.max(milliseconds, 0), MAX_SECONDS * 1000);
  const seconds = Math.floor(time / 1000);
  const nanoseconds = Math.floor((time - seconds * 1000) * 1e6);
  data.setUint32(at + SECONDS, seconds, true);
  data.setUint32(at + NANOSECONDS, seconds === 0 ? Math.max(leastNs, nanoseconds) : nanoseconds, true);
}

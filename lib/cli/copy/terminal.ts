/** Whether a terminal on stdin may be read: a background job that tries is stopped by SIGTTIN. From proc(5), no ioctl. */
import { fstatSync, readFileSync } from "node:fs";
import { isatty } from "node:tty";

type Job = { readonly processGroup: number; readonly terminal: number; readonly foregroundGroup: number };

/** Fields 5, 7 and 8 of /proc/self/stat; the name before them may hold spaces and brackets. */
export function parseJob(stat: string): Job {
  const fields = stat
    .slice(stat.lastIndexOf(")") + 2)
    .split(" ")
    .map(Number);
  const [, , processGroup = 0, , terminal = 0, foregroundGroup = -1] = fields;
  return { processGroup, terminal, foregroundGroup };
}

/** True when `fd` is our controlling terminal and another job is in its foreground. */
export function isBackgroundTerminal(fd: number): boolean {
  if (!isatty(fd)) return false;
  const { processGroup, terminal, foregroundGroup } = parseJob(readFileSync("/proc/self/stat", "latin1"));
  return fstatSync(fd).rdev === deviceNumber(terminal) && processGroup !== foregroundGroup;
}

/** tty_nr has the kernel's 16-bit-major layout in the low half; stat(2)'s dev_t of the C library is the same for it. */
function deviceNumber(terminal: number): number {
  return terminal >>> 0;
}

/** What a broker that we started said before it ended: the last complaint in the log beside its socket. */
import { readFileSync, statSync } from "node:fs";
import { dirname, join } from "node:path";

const PREFIX = "shmlink: ";

/** Where the log of the broker at `socketPath` ends now, in bytes. */
export function logEnd(socketPath: string): number {
  return statSync(logPath(socketPath), { throwIfNoEntry: false })?.size ?? 0;
}

/** @param start  as logEnd() said  @returns undefined when nothing was said since, or it cannot be read */
export function lastComplaint(socketPath: string, start: number): string | undefined {
  try {
    const lines = readFileSync(logPath(socketPath)).subarray(start).toString().split("\n");
    return lines.findLast((line) => line.startsWith(PREFIX))?.slice(PREFIX.length);
  } catch {
    return undefined; // another user's, or a disk without room: the advice names it anyway
  }
}

function logPath(socketPath: string): string {
  return join(dirname(socketPath), "broker.log");
}

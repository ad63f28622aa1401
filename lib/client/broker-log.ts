/**
 * The log of a broker that we start, beside its socket: one older file is kept, and what a broker said before it ended is
 * its last complaint. How much a broker writes is bounded by broker/log-limit.ts.
 */
import { closeSync, fstatSync, openSync, readSync, renameSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { constants, type OwnedFd, open, SyscallError } from "../../ffi/mod.ts";

const PREFIX = "shmlink: ";
/** A log above this is put aside when the next broker starts. */
const ROTATE_BYTES = 1 << 20;
/** Where a complaint is looked for: one is a line. */
const TAIL_BYTES = 1 << 16;

/** Where the log of the broker at `socketPath` ends now, in bytes. */
export function logEnd(socketPath: string): number {
  return statSync(logPath(socketPath), { throwIfNoEntry: false })?.size ?? 0;
}

/** For a broker's stderr, to be called by the one who starts it. A log that cannot be written must not keep the broker
 *  from running. */
export function openLog(socketPath: string): OwnedFd {
  const { O_APPEND, O_CREAT, O_WRONLY } = constants;
  const path = logPath(socketPath);
  if (logEnd(socketPath) > ROTATE_BYTES) putAside(path);
  try {
    return open(path, O_WRONLY | O_CREAT | O_APPEND, 0o600);
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    return open("/dev/null", O_WRONLY);
  }
}

function putAside(path: string): void {
  try {
    renameSync(path, `${path}.1`);
  } catch {
    // a directory of that name, a file system that is read-only: it goes on where it is
  }
}

/** @param start  as logEnd() said  @returns undefined when nothing was said since, or it cannot be read */
export function lastComplaint(socketPath: string, start: number): string | undefined {
  try {
    const lines = readTail(logPath(socketPath), start).split("\n");
    return lines.findLast((line) => line.startsWith(PREFIX))?.slice(PREFIX.length);
  } catch {
    return undefined; // another user's, or a disk without room: the advice names it anyway
  }
}

/** What the file holds from `start` on, or all of it when it is a new one; of a long one the end. */
function readTail(path: string, start: number): string {
  const fd = openSync(path, "r");
  try {
    const { size } = fstatSync(fd);
    const from = Math.max(start > size ? 0 : start, size - TAIL_BYTES);
    const buffer = Buffer.alloc(size - from);
    return buffer.subarray(0, readSync(fd, buffer, 0, buffer.length, from)).toString();
  } finally {
    closeSync(fd);
  }
}

function logPath(socketPath: string): string {
  return join(dirname(socketPath), "broker.log");
}

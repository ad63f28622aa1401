/**
 * The log of a broker that we start, beside its socket: one older file is kept, and what a broker said before it ended is
 * its last complaint. How fast a broker writes is bounded by broker/log-limit.ts, how much of it is kept here.
 */
import { closeSync, fstatSync, openSync, readSync, renameSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import {
  type BorrowedFd,
  borrowFd,
  constants,
  ftruncate,
  type OwnedFd,
  open,
  replaceFd,
  SyscallError,
} from "../../ffi/mod.ts";

const PREFIX = "shmlink: ";
/** A log above this is put aside, by the broker that writes it or when the next one starts. */
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

function putAside(path: string): boolean {
  try {
    renameSync(path, `${path}.1`);
    return true;
  } catch {
    return false; // a directory of that name, a file system that is read-only: it goes on where it is
  }
}

/**
 * For a broker: how it keeps its own log small, when `standardError` is that.
 * @returns to be called before each line: puts a log that is full aside and goes on in a new one, or empties it where there
 *   is no way to have another. Undefined for any other file, which is the business of who chose it
 */
export function ownLogKeeper(socketPath: string, standardError: BorrowedFd = borrowFd(2)): (() => void) | undefined {
  const path = logPath(socketPath);
  if (!isAt(standardError, path)) return undefined;
  return () => {
    if (fstatSync(standardError.number).size > ROTATE_BYTES) beginAnew(path, standardError);
  };
}

function beginAnew(path: string, standardError: BorrowedFd): void {
  const { O_APPEND, O_CREAT, O_WRONLY } = constants;
  try {
    // Somebody else may have moved it: then there is nothing to put aside, and a file of that name is not overwritten.
    if (isAt(standardError, path) && !putAside(path)) return ftruncate(standardError, 0);
    using log = open(path, O_WRONLY | O_CREAT | O_APPEND, 0o600);
    replaceFd(log, standardError.number);
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    ftruncate(standardError, 0); // what was put aside, and nothing better can be had
  }
}

function isAt(fd: BorrowedFd, path: string): boolean {
  try {
    const { dev, ino } = statSync(path);
    const own = fstatSync(fd.number);
    return own.isFile() && own.dev === dev && own.ino === ino;
  } catch {
    return false; // none, or where we may not look
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

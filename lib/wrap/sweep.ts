/**
 * Socket files that nobody listens at any more: a supervisor that is killed cannot remove its own, and its program may
 * go on listening. Such a file is removed once the kernel knows of no socket with that name, at the start and at the
 * end of every wrap.
 *
 * The race it is written against: a file is there from bind(2) on, but refuses connections until listen(2). Who makes
 * one holds the folder's lock shared, who sweeps holds it alone.
 */
import { readFileSync, unlinkSync } from "node:fs";
import {
  bind,
  connect,
  constants,
  errno,
  flock,
  listFolder,
  lstat,
  open,
  SyscallError,
  socket,
  unixAddress,
} from "../../ffi/mod.ts";
import { randomHex } from "../util/random.ts";
import { parseListenerPath, probeName } from "./names.ts";

const { AF_UNIX, LOCK_EX, LOCK_NB, LOCK_SH, O_RDONLY, S_IFMT, S_IFSOCK, SOCK_NONBLOCK, SOCK_STREAM } = constants;

/** Runs `action` while nobody sweeps `directory`. */
export function whileUnswept<T>(directory: string, action: () => T): T {
  using folder = open(directory, O_RDONLY);
  flock(folder, LOCK_SH);
  return action();
}

/** Removes the stale sockets of a folder of ours. @returns how many there were */
export function sweepSockets(directory: string): number {
  const names = socketsIn(directory);
  if (names.length === 0) return 0;
  using folder = open(directory, O_RDONLY);
  if (!flock(folder, LOCK_EX | LOCK_NB)) return 0; // somebody else sweeps, or makes one: the next wrap will
  const bound = boundPaths();
  const stale = names.map((name) => `${directory}/${name}`).filter((path) => !bound.has(path) && !isServed(path));
  return stale.filter(remove).length;
}

function socketsIn(directory: string): string[] {
  const uid = process.getuid?.();
  return list(directory).filter((name) => {
    if (parseListenerPath(name) === undefined) return false;
    const status = lstat(`${directory}/${name}`);
    return status !== undefined && (status.mode & S_IFMT) === S_IFSOCK && status.uid === uid;
  });
}

function list(directory: string): string[] {
  try {
    return listFolder(directory);
  } catch {
    return []; // somebody removed it under us
  }
}

/** The names of all Unix sockets, of this network namespace; proc(5). A listener that was shut down has one too. */
function boundPaths(): Set<string> {
  try {
    const lines = readFileSync("/proc/net/unix", "utf8").split("\n");
    return new Set(lines.map((line) => line.replace(/^(?:\S+\s+){6}\S+\s?/, "")));
  } catch {
    return new Set();
  }
}

/** Whether somebody listens at that path, perhaps in another network namespace. The probe has a name, by which a
 *  supervisor tells it from a client and drops it. */
export function isServed(path: string): boolean {
  using probe = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK);
  try {
    bind(probe, unixAddress(probeName(randomHex(12))));
    connect(probe, unixAddress(path));
    return true;
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    return error.errno !== errno.ECONNREFUSED && error.errno !== errno.ENOENT;
  }
}

function remove(path: string): boolean {
  try {
    unlinkSync(path);
    return true;
  } catch {
    return false; // gone meanwhile
  }
}

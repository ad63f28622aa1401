/**
 * Making the broker's listening socket. The race it is written against: two brokers find a stale socket at the same
 * time, and the slower one unlinks the socket that the faster one has just made. A lock file, held only while the
 * socket is made and removed before it is let go, puts one after the other.
 */
import { lstatSync, unlinkSync } from "node:fs";
import {
  bind,
  connect,
  constants,
  errno,
  fchmod,
  flock,
  fstat,
  listen,
  type OwnedFd,
  open,
  SyscallError,
  socket,
  unixAddress,
} from "../../ffi/mod.ts";
import { FailureError } from "../errors.ts";

const { AF_UNIX, SOCK_STREAM, SOCK_NONBLOCK, O_CREAT, O_RDWR, LOCK_EX } = constants;
const O_NOFOLLOW = 0o400000; // asm-generic/fcntl.h
const BACKLOG = 4096;
const ELSEWHERE = "set SHMLINK_SOCKET to another path";
/** Of a path. */
export const SUN_PATH_MAX_BYTES = 107; // unix(7): sun_path less its NUL

/**
 * A non-blocking listening socket at `path`, mode 0600. A socket there that nobody answers is replaced.
 * @param type  SOCK_STREAM or SOCK_SEQPACKET
 * @throws FailureError "name-in-use" when somebody answers, "no-broker" when it cannot be made
 */
export function listenOn(path: string, type: number = SOCK_STREAM): OwnedFd {
  checkPathLength(path);
  return withLock(path, () => {
    checkFree(path, type);
    return bindAt(path, type);
  });
}

/** Removes the socket file that a broker leaves, unless a new one listens there already. To be called when our own
 *  listener is closed, and never for a socket that a service manager keeps: asking whether somebody listens there is a
 *  connection, which would make it start us again. */
export function removeSocket(path: string, type: number = SOCK_STREAM): void {
  withLock(path, () => {
    const state = probe(path, type);
    if (state === "stale") unlinkSync(path);
  });
}

/** Whether a path on the file system fits in a socket address. */
export function isSocketPath(path: string): boolean {
  return path.startsWith("/") && new TextEncoder().encode(path).length <= SUN_PATH_MAX_BYTES;
}

/** @throws FailureError "invalid" when `path` does not fit in a socket address */
export function checkPathLength(path: string): string {
  const { length } = new TextEncoder().encode(path);
  if (length <= SUN_PATH_MAX_BYTES) return path;
  const advice = "set SHMLINK_SOCKET to a shorter path";
  throw new FailureError(
    "invalid",
    `Cannot use socket path "${path}": it is ${length} bytes long, 107 is the most; ${advice}`,
  );
}

function withLock<T>(path: string, action: () => T): T {
  const lockPath = `${path}.lock`;
  try {
    using lock = takeLock(lockPath);
    try {
      return action();
    } finally {
      // While we hold it: who waits for this inode sees that the path has gone, and starts again.
      if (!lock.closed) unlinkSync(lockPath);
    }
  } catch (error) {
    // ffi's errors and node:fs's have it
    if (!(error instanceof Error && "syscall" in error)) throw error;
    throw new FailureError("no-broker", `Cannot make socket "${path}": ${error.message}; ${remedyOf(error)}`, {
      cause: error,
    });
  }
}

function remedyOf(error: Error): string {
  const isOutOfFiles = "code" in error && (error.code === "EMFILE" || error.code === "ENFILE");
  return isOutOfFiles ? "raise the limit of open files" : ELSEWHERE;
}

function takeLock(lockPath: string): OwnedFd {
  for (;;) {
    const lock = open(lockPath, O_RDWR | O_CREAT | O_NOFOLLOW, 0o600);
    flock(lock, LOCK_EX);
    const current = lstatSync(lockPath, { bigint: true, throwIfNoEntry: false });
    if (current?.ino === fstat(lock).ino) return lock;
    lock.close();
  }
}

function checkFree(path: string, type: number): void {
  const state = probe(path, type);
  if (state === "live")
    throw new FailureError(
      "name-in-use",
      `Cannot listen on "${path}": a broker is running there; use that one, or ${ELSEWHERE}`,
    );
  if (state === "other") {
    throw new FailureError(
      "no-broker",
      `Cannot listen on "${path}": it is there and is not a socket of ours; remove it, or ${ELSEWHERE}`,
    );
  }
  if (state === "stale") unlinkSync(path);
}

/** What is at `path`. connect(2) alone cannot tell: it refuses a regular file as it refuses a dead socket. */
function probe(path: string, type: number): "free" | "stale" | "live" | "other" {
  const status = lstatSync(path, { throwIfNoEntry: false });
  if (status === undefined) return "free";
  if (!status.isSocket()) return "other";
  using fd = socket(AF_UNIX, type | SOCK_NONBLOCK);
  try {
    connect(fd, unixAddress(path), path);
    return "live";
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    if (error.errno === errno.EAGAIN) return "live"; // its backlog is full
    if (error.errno === errno.ECONNREFUSED) return "stale";
    if (error.errno === errno.EACCES || error.errno === errno.EPROTOTYPE) return "other";
    throw error;
  }
}

function bindAt(path: string, type: number): OwnedFd {
  const fd = socket(AF_UNIX, type | SOCK_NONBLOCK);
  try {
    fchmod(fd, 0o600); // bind(2) gives the file the socket's mode: no moment in which others could connect
    bind(fd, unixAddress(path), path);
    listen(fd, BACKLOG);
    return fd;
  } catch (error) {
    fd.close();
    throw error;
  }
}

/**
 * Connecting to the broker's socket. Its backlog can be full where many connect at once: then the kernel lets us wait in
 * connect(2), woken as soon as there is room, which no pause of our own could be as good at.
 */
import {
  connectUnlessInterrupted,
  constants,
  errno,
  type OwnedFd,
  SyscallError,
  setNonBlocking,
  setSendTimeout,
  socket,
  connect as socketConnect,
  unixAddress,
} from "../../ffi/mod.ts";
import { FailureError } from "../errors.ts";

/** 0 would be no limit. */
const SHORTEST_MS = 1;

/**
 * @param patienceMs  how long to wait where the backlog is full; 0: not at all, -1: for ever
 * @returns undefined when nobody listens there @throws FailureError "no-broker" when it cannot be reached
 */
export function connectTo(path: string, patienceMs: number): OwnedFd | undefined {
  const fd = socket(constants.AF_UNIX, constants.SOCK_STREAM | constants.SOCK_NONBLOCK);
  try {
    if (!tryToConnect(fd, path)) waitToConnect(fd, path, patienceMs);
    return fd;
  } catch (error) {
    fd.close();
    if (!(error instanceof SyscallError)) throw error;
    if (error.errno === errno.ENOENT || error.errno === errno.ECONNREFUSED) return undefined;
    throw new FailureError("no-broker", `Cannot reach the broker at "${path}": ${explain(error, patienceMs)}`, {
      cause: error,
    });
  }
}

/** @returns false where the backlog is full */
function tryToConnect(fd: OwnedFd, path: string): boolean {
  try {
    socketConnect(fd, unixAddress(path), path);
    return true;
  } catch (error) {
    if (error instanceof SyscallError && error.errno === errno.EAGAIN) return false;
    throw error;
  }
}

/** @throws SyscallError EAGAIN when it is full all the time */
function waitToConnect(fd: OwnedFd, path: string, patienceMs: number): void {
  if (patienceMs === 0) return void socketConnect(fd, unixAddress(path), path);
  setNonBlocking(fd, false);
  const isEndless = patienceMs < 0 || !Number.isFinite(patienceMs);
  const deadline = performance.now() + patienceMs;
  do setSendTimeout(fd, isEndless ? 0 : Math.max(deadline - performance.now(), SHORTEST_MS));
  while (!connectUnlessInterrupted(fd, unixAddress(path), path)); // a signal does not begin the wait anew
  setSendTimeout(fd, 0);
  setNonBlocking(fd, true);
}

function explain(error: SyscallError, patienceMs: number): string {
  if (error.errno === errno.EACCES) return `${error.message}; it belongs to another user; set SHMLINK_SOCKET`;
  if (error.errno === errno.EPROTOTYPE) return `${error.message}; it is no broker's; remove it, or set SHMLINK_SOCKET`;
  if (error.errno !== errno.EAGAIN) return `${error.message}; is it overloaded?`;
  const since = patienceMs > 0 ? ` for ${patienceMs / 1000} s` : "";
  return `it has no room for one more connection${since}: too many connect, or it is stopped; end them, or the broker`;
}

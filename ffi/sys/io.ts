/** read(2), write(2) and what else works on any descriptor. */
import { calls } from "../calls.ts";
import {
  AT_FDCWD,
  F_GETFL,
  F_GETOWN_EX,
  F_GETSIG,
  F_SETFL,
  F_SETOWN_EX,
  F_SETSIG,
  FIONBIO,
  O_CLOEXEC,
} from "../constants.ts";
import { check, EAGAIN, retry, SyscallError } from "../errno.ts";
import { type BorrowedFd, OwnedFd } from "../fd.ts";
import { allocateForever, cString } from "../memory.ts";

/** A count of bytes, or null where a non-blocking descriptor would have to wait. */
export type Transferred = number | null;

function transferred(result: number, syscall: string, fd: BorrowedFd): Transferred {
  if (result >= 0) return result;
  if (result === -EAGAIN) return null;
  throw new SyscallError(syscall, -result, `fd ${fd.number}`);
}

/** read(2) into `into`. @returns bytes read, 0 at the end, null if it would block */
export function read(fd: BorrowedFd, into: Uint8Array): Transferred {
  return transferred(
    retry(() => calls.read(fd.number, into, into.length)),
    "read",
    fd,
  );
}

/** write(2) of `bytes`, perhaps only a part. @returns bytes written, null if it would block */
export function write(fd: BorrowedFd, bytes: Uint8Array): Transferred {
  return transferred(
    retry(() => calls.write(fd.number, bytes, bytes.length)),
    "write",
    fd,
  );
}

/** pread(2): reads from `offset` and leaves the position alone. @returns bytes read, fewer at the end of the file */
export function readAt(fd: BorrowedFd, into: Uint8Array, offset: number): number {
  return check(
    retry(() => calls.pread64(fd.number, into, into.length, offset)),
    "pread64",
    `fd ${fd.number}`,
  );
}

/** pwrite(2): writes at `offset` and leaves the position alone. @returns bytes written, perhaps only a part */
export function writeAt(fd: BorrowedFd, bytes: Uint8Array, offset: number): number {
  return check(
    retry(() => calls.pwrite64(fd.number, bytes, bytes.length, offset)),
    "pwrite64",
    `fd ${fd.number}`,
  );
}

/** openat(2) relative to the working directory, close-on-exec. @throws SyscallError with the path */
export function open(path: string, flags: number, mode = 0): OwnedFd {
  const result = retry(() => calls.openat(AT_FDCWD, cString(path), flags | O_CLOEXEC, mode));
  return new OwnedFd(check(result, "open", path));
}

/** fcntl(2) F_GETFL: the status flags, O_NONBLOCK and the access mode among them. */
export function getStatusFlags(fd: BorrowedFd): number {
  return check(calls.fcntl(fd.number, F_GETFL, 0), "fcntl F_GETFL", `fd ${fd.number}`);
}

const SWITCH = allocateForever(4);

/** Sets or clears O_NONBLOCK, without asking for the other flags first. It lives on the open file description: whoever shares that sees the change. */
export function setNonBlocking(fd: BorrowedFd, on: boolean): void {
  SWITCH.data.setInt32(0, on ? 1 : 0, true);
  check(calls.ioctl(fd.number, FIONBIO, SWITCH.address), "ioctl FIONBIO", `fd ${fd.number}`);
}

/** fcntl(2) with a plain number, for the commands that have no function of their own. @returns its result */
export function fcntl(fd: BorrowedFd, command: number, arg = 0): number {
  return check(calls.fcntl(fd.number, command, arg), "fcntl", `fd ${fd.number}`);
}

const OWNER = allocateForever(8); // struct f_owner_ex

/** The flags of `from`, whom it sends SIGIO and SIGURG, and which signal, for `to` as well (fcntl(2), F_SETFL, F_SETOWN_EX and
 *  F_SETSIG). */
export function copyFileStatus(from: BorrowedFd, to: BorrowedFd): void {
  check(calls.fcntl(from.number, F_GETOWN_EX, OWNER.address), "fcntl F_GETOWN_EX");
  const [type, id] = [OWNER.data.getInt32(0, true), OWNER.data.getInt32(4, true)]; // F_SETOWN of 0 leaves a type
  if (type !== 0 || id !== 0) calls.fcntl(to.number, F_SETOWN_EX, OWNER.address); // EPERM, ESRCH: nobody
  const signal = check(calls.fcntl(from.number, F_GETSIG, 0), "fcntl F_GETSIG");
  if (signal !== 0) check(calls.fcntl(to.number, F_SETSIG, signal), "fcntl F_SETSIG");
  fcntl(to, F_SETFL, getStatusFlags(from));
}

export function fchmod(fd: BorrowedFd, mode: number): void {
  check(calls.fchmod(fd.number, mode), "fchmod", `fd ${fd.number}`);
}

/** flock(2). @returns false where LOCK_NB was asked for and somebody else holds the lock */
export function flock(fd: BorrowedFd, operation: number): boolean {
  const result = retry(() => calls.flock(fd.number, operation));
  if (result === -EAGAIN) return false;
  check(result, "flock", `fd ${fd.number}`);
  return true;
}

const PIPE_FDS = allocateForever(8);

/** pipe2(2), both ends close-on-exec. @param flags  O_NONBLOCK or 0 */
export function pipe(flags = 0): { readonly reader: OwnedFd; readonly writer: OwnedFd } {
  check(calls.pipe2(PIPE_FDS.address, flags | O_CLOEXEC), "pipe2");
  return {
    reader: new OwnedFd(PIPE_FDS.data.getInt32(0, true)),
    writer: new OwnedFd(PIPE_FDS.data.getInt32(4, true)),
  };
}

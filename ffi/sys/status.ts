/** statx(2): what kind of file something is, and whose. */
import { calls } from "../calls.ts";
import { AT_EMPTY_PATH, AT_FDCWD, AT_STATX_DONT_SYNC, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS } from "../constants.ts";
import { ENOENT, SyscallError } from "../errno.ts";
import type { BorrowedFd } from "../fd.ts";
import { allocateForever, cString } from "../memory.ts";
import { STATX } from "../structs/process.ts";

export type FileStatus = {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly ino: bigint;
  /** How many names it has: none once it was removed. */
  readonly links: number;
  /** Which file system it is on: the two halves of its number in one. */
  readonly device: number;
  readonly sizeBytes: number;
  /** What it takes up, in memory for a memfd; also beyond its end. */
  readonly storedBytes: number;
};

const STATUS = allocateForever(256);
/** stx_dev_major and stx_dev_minor, which has twenty bits. */
const DEVICE_AT = 136;
/** Of stx_blocks, whatever the file system. */
const BLOCK_BYTES = 512;
const EMPTY_PATH = cString("");

/** What statx(2) says of an open descriptor, without asking a file server for it: one that does not answer, across the
 *  network or in user space, would keep us waiting for as long as whoever sent us the descriptor likes. */
export function fstat(fd: BorrowedFd): FileStatus {
  askOf(fd);
  return readStatus();
}

/** Of fstat() only how large it is: every ring is asked for that. */
export function fileSizes(fd: BorrowedFd): Pick<FileStatus, "sizeBytes" | "storedBytes"> {
  askOf(fd);
  return { sizeBytes: long(STATX.offsets.stx_size), storedBytes: long(STATX.offsets.stx_blocks) * BLOCK_BYTES };
}

function askOf({ number }: BorrowedFd): void {
  const flags = AT_EMPTY_PATH | AT_STATX_DONT_SYNC;
  const result = calls.statx(number, EMPTY_PATH, flags, STATX_BASIC_STATS, STATUS.bytes);
  if (result < 0) throw new SyscallError("statx", -result, `fd ${number}`);
}

/** What is at `path`, which may be a symbolic link; undefined where nothing is. @throws SyscallError EACCES, ENOTDIR … */
export function lstat(path: string): FileStatus | undefined {
  return lookAt("lstat", path, AT_SYMLINK_NOFOLLOW);
}

/** lstat(), of what a symbolic link stands for. */
export function stat(path: string): FileStatus | undefined {
  return lookAt("stat", path, 0);
}

function lookAt(name: string, path: string, flags: number): FileStatus | undefined {
  const result = calls.statx(AT_FDCWD, cString(path), flags, STATX_BASIC_STATS, STATUS.bytes);
  if (result === -ENOENT) return undefined;
  if (result < 0) throw new SyscallError(name, -result, path);
  return readStatus();
}

function readStatus(): FileStatus {
  const { data } = STATUS;
  // Field by field: every relayed descriptor is asked, and the whole struct would be a dozen values that nobody wants.
  return {
    mode: data.getUint16(STATX.offsets.stx_mode, true),
    uid: data.getUint32(STATX.offsets.stx_uid, true),
    gid: data.getUint32(STATX.offsets.stx_gid, true),
    ino: data.getBigUint64(STATX.offsets.stx_ino, true),
    links: data.getUint32(STATX.offsets.stx_nlink, true),
    device: STATUS.data.getUint32(DEVICE_AT, true) * 2 ** 20 + STATUS.data.getUint32(DEVICE_AT + 4, true),
    sizeBytes: long(STATX.offsets.stx_size),
    storedBytes: long(STATX.offsets.stx_blocks) * BLOCK_BYTES,
  };
}

function long(offset: number): number {
  return STATUS.data.getUint32(offset, true) + STATUS.data.getUint32(offset + 4, true) * 2 ** 32;
}

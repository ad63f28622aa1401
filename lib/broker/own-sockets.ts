/** Which sockets are the broker's own: its listeners, its connections at either end, doorbells. They are never relayed:
 *  who had one would speak with somebody else's authority, and a connection that waits in itself would never end. */
import {
  type BorrowedFd,
  constants,
  type FileStatus,
  fstat,
  getIntOption,
  getpeername,
  getsockname,
  readUnixAddress,
  SyscallError,
} from "../../ffi/mod.ts";

export class OwnSockets {
  readonly #inodes: Set<bigint> = new Set();
  /** Addresses of listeners: an accepted socket has its listener's, and the client's end has it as its peer's. */
  readonly #paths: Map<string, number> = new Map();

  addListener(fd: BorrowedFd): void {
    const path = pathOf(getsockname, fd);
    if (path !== "") this.#paths.set(path, (this.#paths.get(path) ?? 0) + 1);
    this.#inodes.add(fstat(fd).ino);
  }

  removeListener(fd: BorrowedFd): void {
    const path = pathOf(getsockname, fd);
    const left = (this.#paths.get(path) ?? 1) - 1;
    if (left === 0) this.#paths.delete(path);
    else this.#paths.set(path, left);
    this.#inodes.delete(fstat(fd).ino);
  }

  /** @returns what remove() takes */
  add(fd: BorrowedFd): bigint {
    const { ino } = fstat(fd);
    this.#inodes.add(ino);
    return ino;
  }

  remove(ino: bigint): void {
    this.#inodes.delete(ino);
  }

  /** @param fd  any descriptor  @param status  what fstat(2) says of it */
  has(fd: BorrowedFd, { mode, ino }: Pick<FileStatus, "mode" | "ino"> = fstat(fd)): boolean {
    if ((mode & constants.S_IFMT) !== constants.S_IFSOCK) return false; // a number of another file system means nothing
    if (this.#inodes.has(ino)) return true;
    // Whoever is in the middle of sending on a TCP socket keeps those waiting who ask it for its names.
    if (getIntOption(fd, constants.SOL_SOCKET, constants.SO_DOMAIN) !== constants.AF_UNIX) return false;
    return this.#paths.has(pathOf(getsockname, fd)) || this.#paths.has(pathOf(getpeername, fd));
  }
}

/** Whether `fd` is a connection to `listener`, accepted or not yet: it ends when the one who accepts lets go of it. */
export function isConnectionTo(fd: BorrowedFd, listener: BorrowedFd): boolean {
  const address = addressOf(getsockname, listener);
  const peer = addressOf(getpeername, fd);
  const isSame = address.length === peer.length && address.every((byte, index) => byte === peer[index]);
  return isSame && address.length > FAMILY_BYTES;
}

/** Of an address without a name: what a socket has that is bound to nothing. */
const FAMILY_BYTES = 2;

function pathOf(ask: (fd: BorrowedFd) => Uint8Array, fd: BorrowedFd): string {
  return readUnixAddress(addressOf(ask, fd)) ?? "";
}

function addressOf(ask: (fd: BorrowedFd) => Uint8Array, fd: BorrowedFd): Uint8Array {
  try {
    return ask(fd);
  } catch (error) {
    if (error instanceof SyscallError) return new Uint8Array(0); // no socket, or not connected
    throw error;
  }
}

/** The doorbell that a peer gave with hello: a byte on it says that events were sent. For event loops that cannot watch the
 *  connection itself. */
import { type BorrowedFd, constants, fstat, getIntOption, type OwnedFd, SyscallError, send } from "../../ffi/mod.ts";

const RING = new Uint8Array([1]);

/** Whether it is one that can be rung, without waiting: any other descriptor means that none is wanted. */
export function isDoorbell(fd: BorrowedFd): boolean {
  if ((fstat(fd).mode & constants.S_IFMT) !== constants.S_IFSOCK) return false;
  return getIntOption(fd, constants.SOL_SOCKET, constants.SO_TYPE) === constants.SOCK_STREAM;
}

export class PeerDoorbell implements Disposable {
  readonly #fd: OwnedFd;

  /** Takes `fd`. */
  constructor(fd: OwnedFd) {
    this.#fd = fd;
  }

  /** @returns false when nobody hears it any more */
  ring(): boolean {
    try {
      send(this.#fd, RING, constants.MSG_DONTWAIT | constants.MSG_NOSIGNAL);
      return true;
    } catch (error) {
      if (error instanceof SyscallError) return false;
      throw error;
    }
  }

  [Symbol.dispose](): void {
    this.#fd.close();
  }
}

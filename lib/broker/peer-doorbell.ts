/** The doorbell that a peer gave with hello: a byte on it says that events were sent. For event loops that cannot watch the
 *  connection itself. */
import { type BorrowedFd, constants, fstat, getIntOption, type OwnedFd, SyscallError, send } from "../../ffi/mod.ts";

const RING = new Uint8Array([1]);

/** Whether it is one that can be rung, without waiting: any other descriptor means that none is wanted. Not TCP, which keeps
 *  those who ring waiting while somebody else is in the middle of sending. */
export function isDoorbell(fd: BorrowedFd): boolean {
  if ((fstat(fd).mode & constants.S_IFMT) !== constants.S_IFSOCK) return false;
  const { SOL_SOCKET, SO_DOMAIN, SO_TYPE } = constants;
  return (
    getIntOption(fd, SOL_SOCKET, SO_DOMAIN) === constants.AF_UNIX &&
    getIntOption(fd, SOL_SOCKET, SO_TYPE) === constants.SOCK_STREAM
  );
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

/**
 * Whether a file of the program has other holders, learnt by letting go of it. Nothing counts the references of a file
 * for us, and comparing each descriptor takes long; but an epoll set forgets a file with its last descriptor, in
 * whatever process, and kcmp(2) tells what an epoll set of ours still has.
 */
import {
  type BorrowedFd,
  epollAdd,
  epollCreate,
  isRegisteredFile,
  isStillHeld,
  type OwnedFd,
  SyscallError,
} from "../../ffi/mod.ts";

/** A file that others hold still. */
export type Left = {
  /** Whether that descriptor of a thread means the file. */
  readonly isThat: (thread: number, number: number) => boolean;
};

export class LettingGo implements Disposable {
  /** undefined where there was no descriptor left for another. */
  #epoll: OwnedFd | undefined = epollCreate();

  /** Which files are registered in before they are closed; undefined where descriptors are short. */
  get epoll(): BorrowedFd | undefined {
    try {
      return this.#ready();
    } catch (error) {
      if (error instanceof SyscallError) return undefined;
      throw error;
    }
  }

  /** @throws SyscallError EMFILE */
  #ready(): OwnedFd {
    this.#epoll ??= epollCreate();
    return this.#epoll;
  }

  /** Closes `fd`. @returns undefined if nobody holds its file any more
   *  @throws SyscallError EMFILE, ENOSPC: it is open still */
  close(fd: OwnedFd): Left | undefined {
    const number = fd.number;
    const epoll = this.#ready();
    epollAdd(epoll, fd, 0, 0);
    fd.close();
    return isStillHeld(epoll, number) ? this.left(number) : undefined;
  }

  /** A file that had that number here, was registered in our epoll set, and is held by others. */
  left(number: number): Left {
    const epoll = this.#ready();
    return { isThat: (thread, each) => isSame(thread, each, epoll, number) };
  }

  /** Forgets what was left. */
  reset(): void {
    this.#epoll?.close();
    this.#epoll = undefined;
  }

  [Symbol.dispose](): void {
    this.#epoll?.close();
  }
}

function isSame(thread: number, each: number, epoll: OwnedFd, number: number): boolean {
  try {
    return isRegisteredFile(thread, each, epoll, number);
  } catch (error) {
    if (error instanceof SyscallError) return false; // it has ended
    throw error;
  }
}

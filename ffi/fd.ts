/** Descriptors as types: OwnedFd is closed by its one owner, BorrowedFd is lent for a call or a while. */
import { calls } from "./calls.ts";
import { F_DUPFD_CLOEXEC, F_GETFD } from "./constants.ts";
import { check, EBADF, SyscallError } from "./errno.ts";

/** A descriptor that somebody else will close. */
export type BorrowedFd = { readonly number: number };

/** Lends a descriptor that this process inherited or that the runtime owns, such as 0, 1 and 2. */
export function borrowFd(number: number): BorrowedFd {
  return { number };
}

/** Closes a descriptor, now or a moment later: from the call on it is nobody else's. */
export type CloseFd = (number: number) => void;

/** close(2). */
export const closeNow: CloseFd = (number) => void calls.close(number);

const leaveOpen: CloseFd = () => undefined;

/** Sole owner of a descriptor. Used after close() or take() it throws EBADF, and never means a reused number. */
export class OwnedFd implements Disposable, BorrowedFd {
  #number: number;
  #closeFd: CloseFd;

  /** Takes ownership of `number`, which must be open and owned by nobody else.
   *  @param closeFd  how it is closed: close(2) can take long for what a stranger has opened */
  constructor(number: number, closeFd: CloseFd = closeNow) {
    this.#number = number;
    this.#closeFd = closeFd;
  }

  get number(): number {
    if (this.#number < 0) throw new SyscallError("fd", EBADF, "closed");
    return this.#number;
  }

  get closed(): boolean {
    return this.#number < 0;
  }

  /** Gives ownership up: the caller must close the number. */
  take(): number {
    const number = this.number;
    this.#number = -1;
    return number;
  }

  /** A second descriptor for the same open file description, close-on-exec; closed in the same way. */
  dup(): OwnedFd {
    return duplicateFd(this, this.#closeFd);
  }

  /** A lent one in the place of an owned one: close() only forgets it. To be gone, or keep() called, before its owner may
   *  close it. @throws SyscallError EBADF when it is not open */
  static lend(fd: BorrowedFd): OwnedFd {
    check(calls.fcntl(fd.number, F_GETFD, 0), "fcntl F_GETFD", String(fd.number));
    return new OwnedFd(fd.number, leaveOpen);
  }

  /** What was lent becomes a duplicate, close-on-exec. Nothing happens to one that is owned, or closed.
   *  @throws SyscallError EMFILE, and it is closed */
  keep(): void {
    if (this.#number < 0 || this.#closeFd !== leaveOpen) return;
    const lent = { number: this.take() };
    this.#closeFd = closeNow;
    this.#number = duplicateFd(lent).take();
  }

  /** It is known now that close(2) of it takes no time, whatever anybody does. */
  closeInPlace(): void {
    this.#closeFd = closeNow;
  }

  /** Safe to call twice. An error of close(2) is dropped: the descriptor is gone in any case. */
  close(): void {
    if (this.#number < 0) return;
    const number = this.#number;
    this.#number = -1;
    this.#closeFd(number);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** dup3(2): what `number` meant is closed, and it means what `fd` does, also for programs that are started. */
export function replaceFd(fd: BorrowedFd, number: number): void {
  check(calls.dup3(fd.number, number, 0), "dup3", String(number));
}

/** Duplicates a lent descriptor into one that the caller owns, close-on-exec. @throws SyscallError EBADF, EMFILE */
export function duplicateFd(fd: BorrowedFd, closeFd?: CloseFd): OwnedFd {
  const copy = check(calls.fcntl(fd.number, F_DUPFD_CLOEXEC, 3), "fcntl F_DUPFD_CLOEXEC", String(fd.number));
  return new OwnedFd(copy, closeFd);
}

/** What the loop watches a peer's socket for: input unless a timer stands for it, output while the socket is full. */
import { type BorrowedFd, borrowFd, constants, pollNow } from "../../../ffi/mod.ts";
import type { Reactor, Registration } from "../../transport/reactor.ts";

const { EPOLLIN, EPOLLOUT, EPOLLHUP } = constants;

export class SocketWatch {
  readonly #registration: Registration;
  readonly #fd: BorrowedFd;
  #isHungUp = false;
  /** A timer will read. Counts from the next apply() on. */
  isInputLater = false;
  /** The socket is full. Counts from the next apply() on. */
  isFull = false;

  /** @param fd  the connection's, until remove() @throws SyscallError */
  constructor(reactor: Reactor, fd: BorrowedFd, callback: (events: number) => void) {
    this.#fd = borrowFd(fd.number);
    this.#registration = reactor.add(this.#fd, EPOLLIN, callback);
  }

  /** Nobody watches it any more: what is left is read by a timer. */
  get isHungUp(): boolean {
    return this.#isHungUp;
  }

  /** Whether the peer has closed its end, which the loop may not have come to yet. */
  get isLeft(): boolean {
    return this.#isHungUp || (pollNow(this.#fd, 0) & EPOLLHUP) !== 0;
  }

  apply(): void {
    if (this.#isHungUp) return;
    this.#registration.modify((this.isInputLater ? 0 : EPOLLIN) | (this.isFull ? EPOLLOUT : 0));
  }

  /** A hang-up cannot be masked: while a timer reads what is left, it would keep the loop turning. */
  hangUp(): void {
    this.#isHungUp = true;
    this.#registration.remove();
  }

  /** Safe to call twice. */
  remove(): void {
    this.#registration.remove();
  }
}

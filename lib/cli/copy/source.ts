/**
 * stdin as bytes for a reactor. It is read only when the kernel says that something is there, so one read never waits.
 * The race it is written against: a job that is put into the background while it has its terminal registered; what is
 * typed then is for the shell, and reading it would stop us. So the foreground is checked before each read of one.
 */

import { isatty } from "node:tty";
import { type BorrowedFd, borrowFd, constants, errno, read, SyscallError } from "../../../ffi/mod.ts";
import type { Reactor, Registration } from "../../transport/reactor.ts";
import { isBackgroundTerminal } from "./terminal.ts";

export class Source {
  readonly fd: BorrowedFd;
  readonly isTerminal: boolean;
  readonly #reactor: Reactor;
  readonly #onReady: () => void;
  #registration: Registration | undefined;
  /** Whether one read will not wait. */
  ready = false;
  /** Nothing more will come; from the start when there is nobody to type. */
  ended: boolean;

  /** @param onReady  called by the reactor when `ready` has become true */
  constructor(reactor: Reactor, number: number, onReady: () => void) {
    this.fd = borrowFd(number);
    this.#reactor = reactor;
    this.#onReady = onReady;
    this.isTerminal = isatty(number);
    this.ended = isBackgroundTerminal(number);
    this.resume();
  }

  /** Waits for input again. Safe to call when it does already. */
  resume(): void {
    if (this.ended || this.#registration !== undefined || this.ready) return;
    try {
      this.#registration = this.#reactor.add(this.fd, constants.EPOLLIN, () => this.#arrived());
    } catch (error) {
      if (!(error instanceof SyscallError) || error.errno !== errno.EBADF) throw error;
      this.ended = true; // started with stdin closed
    }
  }

  /** Not modify(0): a pipe whose writer is gone would report that without end. */
  pause(): void {
    this.#registration?.remove();
    this.#registration = undefined;
  }

  #arrived(): void {
    if (this.isTerminal && isBackgroundTerminal(this.fd.number)) return this.pause();
    this.ready = true;
    this.#onReady();
  }

  /** Reads once. @returns bytes read, 0 at the end, null when there was nothing after all */
  read(into: Uint8Array): number | null {
    this.ready = false;
    try {
      const count = read(this.fd, into);
      if (count === 0) this.finish();
      return count;
    } catch (error) {
      // A terminal that hung up says so by EIO.
      if (!(error instanceof SyscallError) || !this.isTerminal) throw error;
      this.finish();
      return 0;
    }
  }

  finish(): void {
    this.ended = true;
    this.pause();
  }
}

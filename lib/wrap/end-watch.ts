/** Tells when nobody has a socket open any more, without a descriptor of it, which would keep it open: inotify on a socket
 *  reports that its last descriptor, in whatever process, was closed. */
import {
  type BorrowedFd,
  constants,
  inotifyInit,
  inotifyUnwatch,
  inotifyWatchFd,
  type OwnedFd,
  readInotify,
  SyscallError,
} from "../../ffi/mod.ts";
import type { Reactor, Registration } from "../transport/reactor.ts";

const LAST_CLOSE = constants.IN_CLOSE_WRITE | constants.IN_CLOSE_NOWRITE;

/** A socket whose end is waited for. */
export type Ending = {
  /** Nobody is told of it any more. */
  forget(): void;
};

export class EndWatch implements Disposable {
  readonly #inotify: OwnedFd | undefined = tryInotify();
  readonly #registration: Registration | undefined;
  readonly #byWatch: Map<number, () => void> = new Map();

  /** Without inotify (fs.inotify.max_user_instances reached) only the end of the whole tree is noticed. */
  constructor(reactor: Reactor) {
    if (this.#inotify === undefined) return;
    this.#registration = reactor.add(this.#inotify, constants.EPOLLIN, () => this.#read());
  }

  /** @param fd  lent for the call @returns undefined where the end will not be noticed */
  watch(fd: BorrowedFd, onEnd: () => void): Ending | undefined {
    if (this.#inotify === undefined) return undefined;
    try {
      const watch = inotifyWatchFd(this.#inotify, fd, LAST_CLOSE);
      this.#byWatch.set(watch, onEnd);
      return { forget: () => this.#end(watch) };
    } catch (error) {
      if (error instanceof SyscallError) return undefined; // fs.inotify.max_user_watches
      throw error;
    }
  }

  /** Tells of all that has ended by now, without waiting for the reactor's turn. */
  notice(): void {
    if (this.#byWatch.size > 0) this.#read();
  }

  #read(): void {
    if (this.#inotify === undefined) return;
    for (;;) {
      const events = readInotify(this.#inotify);
      if (events.length === 0) return;
      for (const { watch } of events) {
        const onEnd = this.#byWatch.get(watch);
        this.#end(watch);
        onEnd?.();
      }
    }
  }

  /** A user may have so many watches (fs.inotify.max_user_watches), and one outlives its socket. */
  #end(watch: number): void {
    if (this.#byWatch.delete(watch) && this.#inotify !== undefined) inotifyUnwatch(this.#inotify, watch);
  }

  [Symbol.dispose](): void {
    this.#byWatch.clear();
    this.#registration?.remove();
    this.#inotify?.close();
  }
}

function tryInotify(): OwnedFd | undefined {
  try {
    return inotifyInit();
  } catch (error) {
    if (error instanceof SyscallError) return undefined;
    throw error;
  }
}

/**
 * Learns of a Unix listener's connections and of its end without holding a descriptor of it, which would keep it
 * alive. Two properties of the kernel make that possible: inotify on a socket tells when its last descriptor, in
 * whatever process, is closed; and an epoll registration outlives the descriptor that it was made with for as long as
 * the open file description lives.
 */
import {
  type BorrowedFd,
  constants,
  epollAdd,
  epollCreate,
  epollWait,
  inotifyInit,
  inotifyWatchFd,
  type OwnedFd,
  readInotify,
  SyscallError,
} from "../../ffi/mod.ts";
import type { Reactor, Registration } from "../transport/reactor.ts";

const LAST_CLOSE = constants.IN_CLOSE_WRITE | constants.IN_CLOSE_NOWRITE;

export type WatchCallbacks<T> = {
  /** Nobody has the listener open any more. */
  readonly onClosed: (subject: T) => void;
  /** A connection came (edge-triggered), or it was shut down; after wakeOnConnection(). */
  readonly onConnection: (subject: T) => void;
};

export class ListenerWatch<T> implements Disposable {
  readonly #callbacks: WatchCallbacks<T>;
  readonly #inotify: OwnedFd | undefined;
  readonly #epoll: OwnedFd;
  readonly #registrations: Registration[] = [];
  readonly #byWatch: Map<number, T> = new Map();
  readonly #byToken: Map<number, T> = new Map();
  #lastToken = 0;

  /** Without inotify (fs.inotify.max_user_instances reached) only the end of the whole tree is noticed. */
  constructor(reactor: Reactor, callbacks: WatchCallbacks<T>) {
    this.#callbacks = callbacks;
    this.#inotify = tryInotify();
    this.#epoll = epollCreate();
    if (this.#inotify !== undefined) {
      this.#registrations.push(reactor.add(this.#inotify, constants.EPOLLIN, () => this.noticeClosed()));
    }
    this.#registrations.push(reactor.add(this.#epoll, constants.EPOLLIN, () => this.#readConnections()));
  }

  /** @param fd  lent for the call @returns whether the end of `subject` will be noticed */
  watch(subject: T, fd: BorrowedFd): boolean {
    if (this.#inotify === undefined) return false;
    try {
      this.#byWatch.set(inotifyWatchFd(this.#inotify, fd, LAST_CLOSE), subject);
      return true;
    } catch (error) {
      if (error instanceof SyscallError) return false; // fs.inotify.max_user_watches
      throw error;
    }
  }

  /** From now on calls onConnection; once is enough for a listener's life. @param fd  lent for the call */
  wakeOnConnection(subject: T, fd: BorrowedFd): void {
    for (const known of this.#byToken.values()) if (known === subject) return;
    this.#lastToken += 1;
    this.#byToken.set(this.#lastToken, subject);
    epollAdd(this.#epoll, fd, constants.EPOLLIN | constants.EPOLLET, this.#lastToken);
  }

  forget(subject: T): void {
    for (const [token, known] of this.#byToken) if (known === subject) this.#byToken.delete(token);
    for (const [watch, known] of this.#byWatch) if (known === subject) this.#byWatch.delete(watch);
  }

  /** Calls onClosed for all that has been closed by now. */
  noticeClosed(): void {
    if (this.#inotify === undefined) return;
    for (const { watch } of readInotify(this.#inotify)) {
      const subject = this.#byWatch.get(watch);
      if (subject !== undefined) this.#callbacks.onClosed(subject);
    }
  }

  #readConnections(): void {
    const ready: T[] = [];
    epollWait(this.#epoll, 0, (token) => {
      const subject = this.#byToken.get(token);
      if (subject !== undefined) ready.push(subject);
    });
    for (const subject of ready) this.#callbacks.onConnection(subject);
  }

  [Symbol.dispose](): void {
    for (const registration of this.#registrations.splice(0)) registration.remove();
    this.#inotify?.close();
    this.#epoll.close();
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

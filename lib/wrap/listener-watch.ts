/** Learns of connections to Unix listeners without a descriptor of them: an epoll registration outlives the descriptor
 *  that it was made with for as long as the open file description lives. */
import { type BorrowedFd, constants, epollAdd, epollCreate, epollWait, type OwnedFd } from "../../ffi/mod.ts";
import type { Reactor, Registration } from "../transport/reactor.ts";

export class ListenerWatch<T> implements Disposable {
  readonly #onConnection: (subject: T) => void;
  readonly #epoll: OwnedFd;
  readonly #registration: Registration;
  readonly #byToken: Map<number, T> = new Map();
  #lastToken = 0;

  /** @param onConnection  a connection came (edge-triggered), or it was shut down; after wakeOnConnection() */
  constructor(reactor: Reactor, onConnection: (subject: T) => void) {
    this.#onConnection = onConnection;
    this.#epoll = epollCreate();
    this.#registration = reactor.add(this.#epoll, constants.EPOLLIN, () => this.#readConnections());
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
  }

  #readConnections(): void {
    const ready: T[] = [];
    epollWait(this.#epoll, 0, (token) => {
      const subject = this.#byToken.get(token);
      if (subject !== undefined) ready.push(subject);
    });
    for (const subject of ready) this.#onConnection(subject);
  }

  [Symbol.dispose](): void {
    this.#registration.remove();
    this.#epoll.close();
  }
}

/**
 * One timer that is set again and again for less than a millisecond. It is a descriptor like any other: it is programmed when
 * it is set, not before every sleep of the loop, as the time limit of epoll_pwait(2) is, and epoll counts no less than
 * milliseconds.
 */
import { constants, type OwnedFd, timerCreate, timerSet } from "../../ffi/mod.ts";
import type { Reactor, Registration } from "./reactor.ts";

export class FineTimer implements Disposable {
  readonly #timer: OwnedFd = timerCreate();
  readonly #registration: Registration;
  #callback: (() => void) | undefined;

  constructor(reactor: Reactor) {
    // By edges: it is never read. Whoever else is ready in the same turn of the loop comes first.
    this.#registration = reactor.add(this.#timer, constants.EPOLLIN | constants.EPOLLET, () =>
      reactor.setTimer(0, () => this.#fire()),
    );
  }

  /** Calls `callback` once, about `delayMs` from now, and not what was set before. */
  set(delayMs: number, callback: () => void): void {
    this.#callback = callback;
    timerSet(this.#timer, delayMs);
  }

  #fire(): void {
    const callback = this.#callback;
    this.#callback = undefined;
    callback?.();
  }

  [Symbol.dispose](): void {
    this.#registration.remove();
    this.#timer.close();
  }
}

/** Which threads' calls machine code answers: their epoll sets have to be known for connect(). */
import { type BorrowedFd, TrapThreads } from "../../../ffi/mod.ts";

export class KnownThreads {
  readonly #places: TrapThreads;
  /** Which thread has which place, and whose files are open there. */
  readonly #threads: number[] = [];
  #next = 0;

  constructor(places: TrapThreads) {
    this.#places = places;
  }

  /** A thread whose call has been answered. @param pidfd  lent until release() */
  meet(thread: number, pidfd: BorrowedFd): void {
    if (this.#threads.includes(thread)) return;
    const index = this.#next;
    this.#next = (index + 1) % TrapThreads.MAX;
    this.#places.release(index);
    this.#places.set(index, thread, pidfd);
    this.#threads[index] = thread;
  }

  /** @returns whether that fits, for a thread that has been met */
  setEpolls(thread: number, epolls: readonly number[]): boolean {
    const index = this.#threads.indexOf(thread);
    return index >= 0 && this.#places.setEpolls(index, epolls);
  }

  /** What is open of threads stays open. */
  forgetEpolls(): void {
    for (let index = 0; index < TrapThreads.MAX; index++) this.#places.setEpolls(index, undefined);
  }

  /** Its number may be another thread's from now on. */
  release(thread: number): void {
    const index = this.#threads.indexOf(thread);
    if (index < 0) return;
    this.#threads[index] = 0;
    this.#places.release(index);
  }
}

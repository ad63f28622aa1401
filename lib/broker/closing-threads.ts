/** The threads that close descriptors: how many there are, who gets one, and which have nothing to do at the moment. */
import { CallThread } from "../../ffi/mod.ts";

/** In all, but that whoever has none gets one; and for the lanes of one user: his contexts cannot take up all of them. */
const MAX_THREADS = 32;
const MAX_THREADS_PER_USER = 8;

/** What is used of a CallThread. */
export type ClosingThread = Pick<CallThread, "isBusy" | "close" | "wait" | "giveBack">;

export class ClosingThreads implements Disposable {
  readonly #start: () => ClosingThread | undefined;
  readonly #idle: ClosingThread[] = [];
  #count = 0;

  /** @param start  CallThread.start() unless a test has its own threads */
  constructor(start: () => ClosingThread | undefined = () => CallThread.start()) {
    this.#start = start;
  }

  /** @param taken  how many the same user has
   *  @returns "busy" when there is none at the moment, "none" when there never is one here: then we close ourselves */
  take(taken: number): ClosingThread | "busy" | "none" {
    if (taken >= MAX_THREADS_PER_USER) return "busy";
    const idle = this.#idle.pop();
    if (idle !== undefined) return idle;
    const mayStart = this.#count < MAX_THREADS || taken === 0;
    const started = mayStart ? this.#start() : undefined;
    if (started !== undefined) this.#count += 1;
    return started ?? (this.#count > 0 ? "busy" : "none");
  }

  /** It has done what it was given. */
  putBack(thread: ClosingThread): void {
    this.#idle.push(thread);
  }

  [Symbol.dispose](): void {
    for (const thread of this.#idle) thread.giveBack();
    this.#idle.length = 0;
  }
}

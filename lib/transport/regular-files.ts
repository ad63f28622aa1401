/** Regular files in an event loop: epoll(7) refuses them, and read(2) and write(2) on them never wait, so they count as ready
 *  for whatever they are asked for, in every turn. */
import { constants } from "../../ffi/mod.ts";

const ALWAYS = constants.EPOLLIN | constants.EPOLLOUT;

type Entry = { readonly events: number; readonly callback: (events: number) => void };

export class RegularFiles<E extends Entry> {
  readonly #entries: Set<E> = new Set();

  get size(): number {
    return this.#entries.size;
  }

  /** Whether one is asked for something: then the loop must not sleep. */
  get isReady(): boolean {
    for (const { events } of this.#entries) if ((events & ALWAYS) !== 0) return true;
    return false;
  }

  add(entry: E): void {
    this.#entries.add(entry);
  }

  has(entry: E): boolean {
    return this.#entries.has(entry);
  }

  /** @returns whether it was one */
  remove(entry: E): boolean {
    return this.#entries.delete(entry);
  }

  /** Calls for each that is asked for something, unless one before it has removed it. */
  run(): void {
    for (const entry of [...this.#entries]) {
      const ready = entry.events & ALWAYS;
      if (ready !== 0 && this.#entries.has(entry)) entry.callback(ready);
    }
  }

  clear(): void {
    this.#entries.clear();
  }
}

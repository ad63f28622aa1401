/** What both ends of a ring have: the words that say where they stand, shared with machine code once that is worth it. */
import type { FastPath, OpenFastPath } from "./fast-path.ts";
import { STATE_WORDS } from "./state.ts";

export class RingEnd {
  /** state.ts */
  protected place: Int32Array = new Int32Array(STATE_WORDS);
  protected fast: FastPath | undefined;
  #open: OpenFastPath | undefined;

  constructor(open: OpenFastPath | undefined) {
    this.#open = open;
  }

  /** Before the memory goes: from now on nothing here touches it without a look at its length. */
  retire(): void {
    this.#open = undefined;
    if (this.fast === undefined) return; // the words are our own
    this.place = this.place.slice();
    this.fast.close();
    this.fast = undefined;
  }

  /** The machine code's way, opened the first time that it is asked for; undefined where there is none. */
  protected useFastPath(): FastPath | undefined {
    const open = this.#open;
    if (open === undefined) return this.fast;
    this.#open = undefined;
    const fast = open();
    if (fast === undefined) return undefined;
    fast.state.set(this.place);
    this.place = fast.state;
    this.fast = fast;
    return fast;
  }
}

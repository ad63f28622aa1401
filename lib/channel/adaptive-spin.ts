/**
 * How long to look before sleeping. A sleep costs two system calls and tens of microseconds across processors, looking
 * costs the processor. The budget grows while looking pays and shrinks while it does not.
 */
import { availableParallelism } from "node:os";

// Asked before anybody pins us to one processor: what counts is whether the other side can run while we look.
const PROCESSORS: number = availableParallelism();
const CHECKS_A_ROUND = 64; // between two looks at the clock
const MIN_SHARE = 1 / 16; // a budget below that is none: the first look has to do
const PROBE_EVERY = 8; // waits
/** What the channels before have learned: the part of its most that a budget had in the end, and how many of them have waited. One
 *  that is opened for a single question has no time to learn anything by itself. */
const before = { share: 1, waited: 0 };
export const DEFAULT_SPIN_US = 80; // about what falling asleep and being woken by another processor cost

export class AdaptiveSpin {
  readonly #maxUs: number;
  #budgetUs: number;
  /** Below 0 before the first. */
  #waits: number = -1;

  /** @param maxUs  0 never spins. With one processor the other side cannot run while we look, so neither then. */
  constructor(maxUs: number = DEFAULT_SPIN_US) {
    this.#maxUs = PROCESSORS > 1 ? maxUs : 0;
    this.#budgetUs = this.#maxUs * before.share;
  }

  /** How often to look before the first call of run(). */
  get looks(): number {
    return this.#maxUs === 0 ? 1 : CHECKS_A_ROUND;
  }

  /** Looks until `ready` or the budget is used up. @returns what `ready` said last */
  run(ready: () => boolean): boolean {
    if (this.#maxUs === 0) return ready();
    for (let check = 0; check < CHECKS_A_ROUND; check++) if (ready()) return true;
    if (this.#waits < 0)
      this.#waits = before.waited++ % PROBE_EVERY; // one that never waits takes no other's try
    else this.#waits = (this.#waits + 1) % PROBE_EVERY;
    const budgetUs = this.#waits === 0 ? this.#maxUs : this.#budgetUs;
    if (budgetUs === 0) return false;
    const end = performance.now() + budgetUs / 1000;
    do {
      for (let check = 0; check < CHECKS_A_ROUND; check++) if (ready()) return this.#learn(true);
    } while (performance.now() < end);
    return this.#learn(false);
  }

  #learn(paid: boolean): boolean {
    const least = this.#maxUs * MIN_SHARE;
    if (paid) this.#budgetUs = Math.min(Math.max(this.#budgetUs, least) * 4, this.#maxUs);
    else this.#budgetUs = this.#budgetUs > least ? this.#budgetUs / 2 : 0;
    // A shorter most says nothing of how far a longer look pays; what is no number says nothing at all.
    if (this.#maxUs >= DEFAULT_SPIN_US && Number.isFinite(this.#maxUs)) before.share = this.#budgetUs / this.#maxUs;
    return paid;
  }
}

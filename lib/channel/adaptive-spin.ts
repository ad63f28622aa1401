/**
 * How long to look before sleeping. A sleep costs two system calls and tens of microseconds across processors, looking
 * costs the processor. The budget grows while looking pays and shrinks while it does not.
 */
import { availableParallelism } from "node:os";

const CHECKS_A_ROUND = 64; // between two looks at the clock
const MIN_BUDGET_US = 2;
export const DEFAULT_SPIN_US = 50; // about one wake-up between two processors

export class AdaptiveSpin {
  readonly #maxUs: number;
  #budgetUs: number;

  /** @param maxUs  0 never spins. With one processor the other side cannot run while we look, so neither then. */
  constructor(maxUs: number = DEFAULT_SPIN_US) {
    this.#maxUs = availableParallelism() > 1 ? maxUs : 0;
    this.#budgetUs = this.#maxUs;
  }

  /** Looks until `ready` or the budget is used up. @returns what `ready` said last */
  run(ready: () => boolean): boolean {
    if (this.#maxUs === 0) return ready();
    for (let check = 0; check < CHECKS_A_ROUND; check++) if (ready()) return true;
    const end = performance.now() + this.#budgetUs / 1000;
    do {
      for (let check = 0; check < CHECKS_A_ROUND; check++) if (ready()) return this.#learn(true);
    } while (performance.now() < end);
    return this.#learn(false);
  }

  #learn(paid: boolean): boolean {
    this.#budgetUs = paid ? Math.min(this.#budgetUs * 2, this.#maxUs) : Math.max(this.#budgetUs / 2, MIN_BUDGET_US);
    return paid;
  }
}

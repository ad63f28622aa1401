/**
 * Turns of those who have more to say than others: one at a time, and after each the broker sleeps for a moment, at least
 * as long as that one took. So all of them together have half of its time, and whoever it has just answered finds a
 * processor to hear it, also where they share one: a broker that never sleeps keeps it for a scheduler's slice at a time.
 */
const PAUSE_MS = 0.05;

export class FloodTurns {
  readonly #setTimer: (delayMs: number, callback: () => void) => void;
  readonly #now: () => number;
  readonly #waiting: (() => void)[] = [];
  /** A timer is set, or a turn is being taken: whoever comes now is not the first. */
  #isBusy = false;

  /** @param now  milliseconds; performance.now() unless a test has its own time */
  constructor(setTimer: (delayMs: number, callback: () => void) => void, now: () => number = () => performance.now()) {
    this.#setTimer = setTimer;
    this.#now = now;
  }

  /** Calls `act` when it is its turn. */
  await(act: () => void): void {
    this.#waiting.push(act);
    if (!this.#isBusy) this.#pause(PAUSE_MS);
  }

  #pause(delayMs: number): void {
    this.#isBusy = true;
    this.#setTimer(delayMs, () => this.#take());
  }

  #take(): void {
    const act = this.#waiting.shift();
    const startMs = this.#now();
    act?.();
    this.#isBusy = false;
    if (this.#waiting.length > 0) this.#pause(Math.max(this.#now() - startMs, PAUSE_MS));
  }
}

/**
 * What a peer is told and does not wait for: it goes with the next that it is told, or a moment later. So who offers one
 * thing after the other hears who has taken the last one with the answer for the next, and is not woken for it.
 */

/** How long it may wait. */
const NOTICE_MS = 10;

type Told = { sendQueued(): void };

export class Notices {
  readonly #setTimer: (delayMs: number, callback: () => void) => void;
  readonly #told: Set<Told> = new Set();
  #isTimerSet = false;

  constructor(setTimer: (delayMs: number, callback: () => void) => void) {
    this.#setTimer = setTimer;
  }

  /** Something is queued for it, which nothing has been done about. */
  watch(session: Told): void {
    this.#told.add(session);
    if (this.#isTimerSet) return;
    this.#isTimerSet = true;
    this.#setTimer(NOTICE_MS, () => this.#sendAll());
  }

  #sendAll(): void {
    this.#isTimerSet = false;
    const told = [...this.#told];
    this.#told.clear();
    for (const session of told) session.sendQueued();
  }
}

/** Dialling a name that nobody offers yet: asked again until somebody does, since the broker keeps no one waiting. */
import { FailureError } from "../errors.ts";
import { deadlineOf } from "../util/milliseconds.ts";

/** Two programs that are started together find one another soon; who waits for long costs the broker next to nothing. */
const [FIRST_MS, LAST_MS] = [20, 250];

export class UntilOffered {
  readonly #deadline: number;
  #pauseMs: number = FIRST_MS;

  /** @param waitMs  0 for one try, -1 for as long as it takes  @throws TypeError for what is no number */
  constructor(waitMs: number) {
    this.#deadline = deadlineOf(waitMs, "waitMs");
  }

  /** What to do about a try that failed. @returns how long to wait before the next @throws error when there is none */
  pause(error: unknown): number {
    const leftMs = this.#deadline - performance.now();
    if (!(error instanceof FailureError) || error.code !== "unknown-name" || leftMs <= 0) throw error;
    const pauseMs = Math.min(this.#pauseMs, leftMs);
    this.#pauseMs = Math.min(this.#pauseMs * 1.2, LAST_MS);
    return pauseMs;
  }
}

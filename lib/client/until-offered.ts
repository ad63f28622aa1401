/** Dialling a name that nobody offers yet: asked again until somebody does, since the broker keeps no one waiting. */
import { FailureError } from "../errors.ts";

/** Seldom enough to be nothing for the broker, soon enough not to be seen by a person. */
const RETRY_MS = 20;

export class UntilOffered {
  readonly #deadline: number;

  /** @param waitMs  0 for one try, -1 for as long as it takes */
  constructor(waitMs: number) {
    this.#deadline = waitMs < 0 ? Number.POSITIVE_INFINITY : performance.now() + waitMs;
  }

  /** What to do about a try that failed. @returns how long to wait before the next @throws error when there is none */
  pause(error: unknown): number {
    const leftMs = this.#deadline - performance.now();
    if (!(error instanceof FailureError) || error.code !== "unknown-name" || leftMs <= 0) throw error;
    return Math.min(RETRY_MS, leftMs);
  }
}

/**
 * What a peer may cost that rings for nothing. An honest one rings once for each time that we ask for it, and then there is
 * something to do. After a few wake-ups in a row that led to nothing the doorbell is left alone for a while, longer each
 * time, so that a flood of bytes costs some sixty turns a second and not a processor.
 */

/** A byte that rang while we had looked already is no fault; so many in a row are. */
const FREE_WAKES = 16;
const LONGEST_REST_MS = 16;

export class WakeLimit {
  #useless = 0;
  #progress = Number.NaN;

  /** To be told of each wake-up. @param progress  a number that changes when something was sent or received
   *  @returns for how many milliseconds not to listen to the doorbell, 0 as long as the peer is honest */
  woken(progress: number): number {
    this.#useless = progress === this.#progress ? this.#useless + 1 : 0;
    this.#progress = progress;
    const over = this.#useless - FREE_WAKES;
    return over <= 0 ? 0 : Math.min(2 ** Math.min(over - 1, 8), LONGEST_REST_MS);
  }
}

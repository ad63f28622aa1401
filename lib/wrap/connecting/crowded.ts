/**
 * Destinations to which all names were taken a moment ago: to try many costs a millisecond, for which everybody of the tree
 * waits, and the next connect() would find them taken as well. Pure.
 */

const NAMES_TO_TRY = 64;
/** For so long one is enough. */
const CROWDED_MS = 100;
const MAX_DESTINATIONS = 64;

export class CrowdedDestinations {
  readonly #untilMs: Map<string, number> = new Map();

  /** How many names to try before a connection goes over TCP. */
  namesToTry(destination: string, nowMs: number): number {
    const untilMs = this.#untilMs.get(destination);
    if (untilMs === undefined) return NAMES_TO_TRY;
    if (nowMs < untilMs) return 1;
    this.#untilMs.delete(destination);
    return NAMES_TO_TRY;
  }

  /** All that were tried were taken. */
  note(destination: string, nowMs: number): void {
    if (this.#untilMs.has(destination)) return; // in 100 ms many are tried again
    if (this.#untilMs.size >= MAX_DESTINATIONS) this.#untilMs.clear();
    this.#untilMs.set(destination, nowMs + CROWDED_MS);
  }
}

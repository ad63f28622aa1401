/**
 * Those who have left and count all the same: what they had said before is handled when it is their turn, as far as it is
 * handled at all, and until then they take a place of their user's. Who comes and finds no place has theirs.
 */
import { type Account, accountKey } from "./quota.ts";

/** Looking for them takes a while, so who comes again and again without finding a place does not have it done each time. */
const PAUSE_MS = 20;
/** Ended at once: nobody else is to notice. */
const AT_ONCE = 64;
/** Users and contexts whose last time is remembered. */
const MAX_REMEMBERED = 256;

/** A session, as far as it can have been left. */
export type Leavable = { readonly owner: Account; readonly isLeft: boolean; end(): void };

export class Departed {
  readonly #sessions: () => Iterable<Leavable>;
  readonly #lastMs: Map<string, number> = new Map();

  constructor(sessions: () => Iterable<Leavable>) {
    this.#sessions = sessions;
  }

  /** Ends some sessions of that user or context whose peers have left. @returns whether there were any */
  letGo(who: Account, nowMs: number): boolean {
    const key = accountKey(who);
    if (nowMs - (this.#lastMs.get(key) ?? Number.NEGATIVE_INFINITY) < PAUSE_MS) return false;
    if (this.#lastMs.size >= MAX_REMEMBERED) this.#lastMs.clear();
    this.#lastMs.set(key, nowMs);
    const left: Leavable[] = [];
    for (const session of this.#sessions()) {
      if (accountKey(session.owner) === key && session.isLeft) left.push(session);
      if (left.length === AT_ONCE) break;
    }
    for (const session of left) session.end();
    return left.length > 0;
  }
}

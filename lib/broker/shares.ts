/** Who shares the broker's time with whom: all connections of one user, or of one context of his, and of each of his
 *  processes. Pure: the time is handed in. */
import { type Crowd, type Crowds, newCrowd } from "./crowds.ts";
import { newShare, type Share } from "./flood-share.ts";
import { type Account, accountKey } from "./quota.ts";
import { type Used, usedMs } from "./used.ts";

/** Those who have used nothing of late are forgotten when there are more than so many: who of them is there still counts
 *  alone from then on. */
const MAX_IDLE = 256;

/** With a process, unless it is not known yet. Connections that it has minted are others' by now, and a crowd apart from its own. */
export type Sharer = Account & { readonly pid?: number; readonly grants?: unknown };

/** What those of one user or context have used together. */
type Together = { readonly all: Used } & Omit<Crowds, "process">;

export class Shares {
  readonly #accounts: Map<string, Together> = new Map();
  readonly #processes: Map<string, Crowd> = new Map();

  /** A new one of those of that user or context. */
  of(who: Sharer, nowMs: number): Share {
    const key = accountKey(who);
    const { all, crowded, account } = this.#account(key, nowMs);
    const process = `${key} ${who.pid} ${who.grants === undefined ? "own" : "minted"}`;
    return newShare(all, { account, crowded, process: this.#process(process, nowMs) });
  }

  #account(key: string, nowMs: number): Together {
    let found = this.#accounts.get(key);
    if (found === undefined) {
      if (this.#accounts.size >= MAX_IDLE)
        for (const [other, { all, crowded, account }] of this.#accounts)
          if ([all, crowded, account].every((one) => usedMs(one, nowMs) === 0)) this.#accounts.delete(other);
      found = { all: { usedMs: 0, atMs: 0 }, crowded: newCrowd(), account: newCrowd() };
      this.#accounts.set(key, found);
    }
    return found;
  }

  #process(key: string, nowMs: number): Crowd {
    let found = this.#processes.get(key);
    if (found === undefined) {
      if (this.#processes.size >= MAX_IDLE)
        for (const [other, crowd] of this.#processes) if (usedMs(crowd, nowMs) === 0) this.#processes.delete(other);
      found = newCrowd();
      this.#processes.set(key, found);
    }
    return found;
  }
}

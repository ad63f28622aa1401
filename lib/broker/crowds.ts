/**
 * Many who ask for little each, and for much together: the connections of one process, or the processes of one user or
 * context. None of them fills a turn, so none of them floods by itself, yet whoever asks then stands behind them all.
 * What they have in one turn of the loop beyond a few requests is counted, and where that goes on while others speak, they
 * have their turns with those who flood. Pure: the time is handed in.
 */
import { HEARD_MS, type Used, use, usedMs } from "./used.ts";

/** What they have had beyond a few requests in a turn. */
export type Crowd = Used & {
  /** The last turn of the loop in which they said something, and how much. */
  turn: number;
  amount: number;
};

/** Those that a session is one of. */
export type Crowds = {
  readonly process: Crowd;
  /** All processes of a user or context that are crowds by themselves. */
  readonly crowded: Crowd;
  /** All others of them: none asks for much. */
  readonly account: Crowd;
};

/** What reading from one more connection and answering there counts for, in requests: about as much work. */
const READ_COST = 4;
/** What a process may say in one turn of the loop: a dial and what goes with it, or three connections one request each. */
const OF_PROCESS = 16;
/** The same for all processes of a user or context, which do not know of each other: twelve with one request each. */
const OF_ACCOUNT = 64;
/** A burst that others do not notice for long, such as programs that start together. */
const BURST_MS = 5;

export function newCrowds(): Crowds {
  return { process: newCrowd(), crowded: newCrowd(), account: newCrowd() };
}

export function newCrowd(): Crowd {
  return { usedMs: 0, atMs: 0, turn: 0, amount: 0 };
}

export class CrowdPolicy {
  #turn = 0;
  readonly #processes = new LastHeard();
  readonly #accounts = new LastHeard();

  /** A turn of the loop begins. */
  nextTurn(): void {
    this.#turn += 1;
  }

  /** One of them has something to say. */
  heard({ process, account }: Crowds, nowMs: number): void {
    this.#processes.note(process, nowMs);
    this.#accounts.note(account, nowMs);
  }

  /** One of them had so many requests answered, and `ms` passed meanwhile.
   *  @returns whether that is counted: to the process that asks for so much, and else to all of that user or context */
  answered({ process, crowded, account }: Crowds, requests: number, ms: number, nowMs: number): boolean {
    const amount = READ_COST + requests;
    if (this.#add(process, amount) > OF_PROCESS) {
      use(process, ms, nowMs);
      use(crowded, ms, nowMs);
      return true;
    }
    if (this.#add(account, amount) <= OF_ACCOUNT) return false;
    use(account, ms, nowMs);
    return true;
  }

  /** @returns what they have said in this turn */
  #add(crowd: Crowd, amount: number): number {
    if (crowd.turn !== this.#turn) crowd.amount = 0;
    crowd.turn = this.#turn;
    crowd.amount += amount;
    return crowd.amount;
  }

  /** Those for whose sake this one has to wait for a turn, if any. */
  crowdOf({ process, crowded, account }: Crowds, nowMs: number): Crowd | undefined {
    if (isGreedy(process, nowMs) && this.#processes.haveOthersSpoken(process, nowMs)) return process;
    const isOneOfThem = isGreedy(crowded, nowMs) && usedMs(process, nowMs) > 0;
    if (!isOneOfThem && !isGreedy(account, nowMs)) return undefined;
    if (!this.#accounts.haveOthersSpoken(account, nowMs)) return undefined;
    return isOneOfThem ? crowded : account;
  }
}

function isGreedy(crowd: Crowd, nowMs: number): boolean {
  return usedMs(crowd, nowMs) > BURST_MS;
}

/** Who spoke last, and when somebody else did before. */
class LastHeard {
  #who: Crowd | undefined;
  #atMs = Number.NEGATIVE_INFINITY;
  #otherMs = Number.NEGATIVE_INFINITY;

  note(who: Crowd, nowMs: number): void {
    if (who !== this.#who) this.#otherMs = this.#atMs;
    this.#who = who;
    this.#atMs = nowMs;
  }

  haveOthersSpoken(than: Crowd, nowMs: number): boolean {
    return nowMs - (than === this.#who ? this.#otherMs : this.#atMs) <= HEARD_MS;
  }
}

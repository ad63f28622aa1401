/**
 * Turns of those who have more to say than others: one at a time, and after each the broker sleeps for a moment, at least
 * as long as that one took. So whoever it has just answered finds a processor to hear it, also where they share one: a
 * broker that never sleeps keeps it for a scheduler's slice at a time.
 *
 * Who asks for much at once and then is content has every other moment. Who goes on gets less and less of the time, down to
 * a tenth and below, as long as others have something to ask too; who has used the least is the next.
 */
import { type Crowd, CrowdPolicy } from "./crowds.ts";
import { type Share, SharePolicy } from "./flood-share.ts";
import { type Sharer, Shares } from "./shares.ts";
import { use } from "./used.ts";

const PAUSE_MS = 0.05;

type Waiting = { readonly who: Share; readonly act: () => void; readonly crowd: Crowd | undefined };

export type FloodTurnsOptions = {
  readonly setTimer: (delayMs: number, callback: () => void) => void;
  /** Called before a turn, so that others' answers are under way by then. */
  readonly before?: () => void;
  /** Milliseconds; performance.now() unless a test has its own time. */
  readonly now?: () => number;
};

export class FloodTurns {
  readonly #setTimer: (delayMs: number, callback: () => void) => void;
  readonly #before: () => void;
  readonly #now: () => number;
  readonly #waiting: Waiting[] = [];
  /** Of those the next, whom the timer is for. */
  #first: Waiting | undefined;
  readonly #policy = new SharePolicy();
  readonly #crowds = new CrowdPolicy();
  readonly #shares = new Shares();
  /** A turn is being taken: whoever comes now is not the first. */
  #isTaking = false;
  /** What the timer that counts is set for; an earlier one makes it void. */
  #dueMs: number | undefined;
  #lastTookMs = 0;
  #lastEndMs = 0;

  constructor({ setTimer, before = () => undefined, now = () => performance.now() }: FloodTurnsOptions) {
    this.#setTimer = setTimer;
    this.#before = before;
    this.#now = now;
  }

  /** A new share of those of `who`. */
  shareOf(who: Sharer): Share {
    return this.#shares.of(who, this.#now());
  }

  /** Calls `act` when it is the turn of `who`. @param crowd  for whose sake, where he does not flood himself */
  await(who: Share, act: () => void, crowd?: Crowd): void {
    this.#waiting.push({ who, act, crowd });
    const isLater = this.#first !== undefined && !this.#policy.isBefore(who, this.#first.who, this.#now());
    if (!this.#isTaking && !isLater) this.#arm();
  }

  /** A turn of the loop begins: everybody may say a little out of turn. */
  begin(): void {
    this.#crowds.nextTurn();
  }

  /** By its own clock. */
  get nowMs(): number {
    return this.#now();
  }

  /** Those for whose sake `who` has to wait for a turn, though he does not flood himself.
   *  @param nowMs  of this clock, as below: who has looked already need not again */
  crowdOf(who: Share, nowMs: number): Crowd | undefined {
    return this.#crowds.crowdOf(who.crowds, nowMs);
  }

  /** Somebody has something to say out of turn. @returns when, for answered() */
  heard(who: Share, nowMs: number): number {
    this.#policy.heard(who, nowMs);
    this.#crowds.heard(who.crowds, nowMs);
    return nowMs;
  }

  /** That was answered; what it took is counted where those of his say much together. @param sinceMs  from heard() */
  answered(who: Share, requests: number, sinceMs: number): void {
    const nowMs = this.#now();
    const tookMs = nowMs - sinceMs;
    if (this.#crowds.answered(who.crowds, requests, tookMs, nowMs)) this.#policy.spend(who, tookMs, nowMs);
  }

  /** Whether those of `who` have used more than a burst's worth. */
  isGreedy(who: Share): boolean {
    return this.#policy.isGreedy(who, this.#now());
  }

  /** Calls `act` at once, and counts what it takes. */
  run<T>(who: Share, act: () => T): T {
    const startMs = this.#now();
    const result = act();
    const endMs = this.#now();
    this.#policy.spend(who, endMs - startMs, endMs);
    return result;
  }

  #arm(): void {
    const nowMs = this.#now();
    const next = this.#next(nowMs);
    this.#first = next;
    if (next === undefined) return;
    const restMs = this.#policy.pauseMs(next.who, this.#lastTookMs, nowMs);
    const dueMs = Math.max(this.#lastEndMs + restMs, nowMs + PAUSE_MS);
    if (this.#dueMs !== undefined && this.#dueMs <= dueMs) return;
    this.#dueMs = dueMs;
    this.#setTimer(dueMs - nowMs, () => {
      if (this.#dueMs === dueMs) this.#take();
    });
  }

  /** Who has used the least, and of those who has waited longest. */
  #next(nowMs: number): Waiting | undefined {
    let least: Waiting | undefined;
    for (const one of this.#waiting)
      if (least === undefined || this.#policy.isBefore(one.who, least.who, nowMs)) least = one;
    return least;
  }

  #take(): void {
    this.#dueMs = undefined;
    this.#isTaking = true;
    this.#before();
    const startMs = this.#now();
    const next = this.#first;
    if (next !== undefined) {
      this.#waiting.splice(this.#waiting.indexOf(next), 1);
      next.act();
      this.#lastEndMs = this.#now();
      this.#lastTookMs = this.#lastEndMs - startMs;
      this.#policy.spend(next.who, this.#lastTookMs, this.#lastEndMs);
      if (next.crowd !== undefined) use(next.crowd, this.#lastTookMs, this.#lastEndMs);
    }
    this.#isTaking = false;
    this.#arm();
  }
}

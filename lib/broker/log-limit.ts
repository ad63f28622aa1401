/**
 * A log that no peer can fill a disk with: so many lines at once and so many a second, for each user and for all of them
 * together. What is left out is counted and said with the next line that is not. For files; the journal has limits of its
 * own, and at a terminal somebody watches.
 */
import { type Fields, isWritten, type Logger } from "../log.ts";
import { howMany } from "../util/how-many.ts";

/** Lines: a user's, and everybody's. A few megabytes a day from one who tries, some tens from all. */
const USER: Rate = { burst: 500, perSecond: 1 };
const TOTAL: Rate = { burst: 2000, perSecond: 4 };
/** Characters: what is longer is cut. */
const MAX_LINE = 1024;
/** Users who are remembered; the least recent is forgotten, and begins again with a full measure. */
const MAX_USERS = 256;

/** Lines at once, and those that come back every second. */
type Rate = { readonly burst: number; readonly perSecond: number };
export type LogLimits = {
  /** What a user may write, the one who is not named among them. */
  readonly user?: Rate;
  /** What all may write together. */
  readonly total?: Rate;
  /** Milliseconds that never go back. */
  readonly now?: () => number;
};
type Level = keyof Logger;

class Measure {
  readonly #rate: Rate;
  #left: number;
  #atMs: number;

  constructor(rate: Rate, nowMs: number) {
    this.#rate = rate;
    this.#left = rate.burst;
    this.#atMs = nowMs;
  }

  has(nowMs: number): boolean {
    const earned = ((nowMs - this.#atMs) * this.#rate.perSecond) / 1000;
    this.#left = Math.min(this.#rate.burst, this.#left + earned);
    this.#atMs = nowMs;
    return this.#left >= 1;
  }

  take(): void {
    this.#left -= 1;
  }
}

export class LimitedLog implements Logger {
  readonly #logger: Logger;
  readonly #now: () => number;
  readonly #lowest: Level;
  readonly #user: Rate;
  readonly #total: Measure;
  readonly #users: Map<unknown, Measure> = new Map();
  #leftOut = 0;

  /** @param lowest  of the levels that `logger` writes: what it would drop does not count */
  constructor(logger: Logger, lowest: Level, limits: LogLimits = {}) {
    const { user = USER, total = TOTAL, now = () => performance.now() } = limits;
    this.#logger = logger;
    this.#lowest = lowest;
    this.#now = now;
    this.#user = user;
    this.#total = new Measure(total, now());
  }

  error(message: string, fields?: Fields): void {
    this.#write("error", message, fields);
  }

  warn(message: string, fields?: Fields): void {
    this.#write("warn", message, fields);
  }

  info(message: string, fields?: Fields): void {
    this.#write("info", message, fields);
  }

  debug(message: string, fields?: Fields): void {
    this.#write("debug", message, fields);
  }

  #write(level: Level, message: string, fields: Fields | undefined): void {
    if (!isWritten(level, this.#lowest)) return;
    const nowMs = this.#now();
    const user = this.#measureOf(fields?.["uid"], nowMs);
    if (!this.#total.has(nowMs) || !user.has(nowMs)) {
      this.#leftOut += 1;
      return;
    }
    for (const measure of [this.#total, user]) measure.take();
    this.tellLeftOut();
    this.#logger[level](message.length > MAX_LINE ? `${message.slice(0, MAX_LINE)}…` : message, fields);
  }

  #measureOf(user: unknown, nowMs: number): Measure {
    const known = this.#users.get(user) ?? new Measure(this.#user, nowMs);
    this.#users.delete(user);
    this.#users.set(user, known); // the most recent last
    if (this.#users.size > MAX_USERS) this.#users.delete(this.#users.keys().next().value);
    return known;
  }

  /** To be called at the end, when no other line comes. */
  tellLeftOut(): void {
    if (this.#leftOut === 0) return;
    this.#logger.warn(`Left out ${howMany(this.#leftOut, "line")}: there were too many at once`);
    this.#leftOut = 0;
  }
}

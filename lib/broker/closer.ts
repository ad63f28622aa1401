/**
 * Closes descriptors that strangers have opened, or have had in their hands. close(2) can take as long as its sender likes, so
 * it is threads that make nothing else who do it; ours goes on.
 *
 * Each user, and each context of a user, has a lane: one thread at a time works for it, and what comes meanwhile waits. So
 * whoever sends something that cannot be closed holds up his own descriptors and nobody else's. What is late counts among the
 * descriptors of his that he may have (maxFdsPerUser); above that many he is shown out.
 */
import { CallThread, type CloseFd, closeNow, constants, type FileStatus, OwnedFd } from "../../ffi/mod.ts";
import { FailureError } from "../errors.ts";
import type { FdType } from "./classify.ts";
import { type Devices, isDrained, isHarmless, knownDevices } from "./harmless.ts";
import { type Account, accountKey, type Quota } from "./quota.ts";

/** How often threads that have work are looked at, when nothing else happens. */
const LOOK_MS = 10;
/** A thread that has not come back by then is late: until then it is no concern of the quota. */
const LATE_MS = 100;
/** In all, but that whoever has none gets one; and for the lanes of one user: his contexts cannot take up all of them. */
const MAX_THREADS = 32;
const MAX_THREADS_PER_USER = 8;
/** So many of those that are in no hurry are given to a thread at once; fewer wait for LOOK_MS. */
const BATCH = 16;
/** How long the end of the broker waits for what is still to be closed. */
const LAST_WAIT_MS = 1000;

/** What is used of a CallThread. */
export type ClosingThread = Pick<CallThread, "isBusy" | "close" | "wait" | "giveBack">;

type Lane = {
  readonly who: Account;
  readonly key: string;
  readonly waiting: number[];
  /** Whether all that wait may wait for others. */
  isLazy: boolean;
  /** What the thread has, how many, and since when. */
  thread: ClosingThread | undefined;
  given: number;
  sinceMs: number;
  /** Charged: it is late. */
  charged: number;
};

export type CloserOptions = {
  readonly quota: Quota;
  readonly setTimer: (delayMs: number, callback: () => void) => void;
  /** Milliseconds; performance.now() unless a test has its own time. */
  readonly now?: () => number;
  /** CallThread.start() unless a test has its own threads. */
  readonly startThread?: () => ClosingThread | undefined;
};

export class Closer implements Disposable {
  readonly #options: CloserOptions;
  readonly #startThread: () => ClosingThread | undefined;
  readonly #devices: Devices = knownDevices();
  readonly #lanes: Map<string, Lane> = new Map();
  readonly #idle: ClosingThread[] = [];
  readonly #now: () => number;
  #threadCount = 0;
  #isTimerSet = false;
  #isEnding = false;

  constructor(options: CloserOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
    this.#startThread = options.startThread ?? (() => CallThread.start());
  }

  /** How descriptors that `who` has sent, or could have done anything to, are closed. */
  closingFor(who: Account): CloseFd {
    return (number) => {
      if (isHarmless(number, this.#devices)) closeNow(number);
      else this.#push(who, number);
    };
  }

  /** How those are closed that are in no hurry: many at once, for waking a thread costs more than closing one. */
  closingLaterFor(who: Account): CloseFd {
    return (number) => {
      this.#lane(who).waiting.push(number);
    };
  }

  #push(who: Account, number: number): void {
    const lane = this.#lane(who);
    lane.isLazy = false;
    lane.waiting.push(number);
  }

  /** Of a connection of ours. @param fd  taken */
  guardConnection(fd: OwnedFd, who: Account): OwnedFd {
    return new OwnedFd(fd.take(), (number) => {
      if (isDrained(number)) closeNow(number);
      else this.#push(who, number);
    });
  }

  /** Of what we have made and give away. @param fd  taken */
  guard(fd: OwnedFd, who: Account): OwnedFd {
    return new OwnedFd(fd.take(), this.closingFor(who));
  }

  /** Spares what is relayed most a question at the end. @param status  what fstat(2) says of it @param type  what it is */
  settleHow(fd: OwnedFd, { mode, device }: Pick<FileStatus, "mode" | "device">, type: FdType): void {
    const isPipe = (mode & constants.S_IFMT) === constants.S_IFIFO && device === this.#devices.pipes;
    if (isPipe || type === "eventfd") fd.closeInPlace();
  }

  #lane(who: Account): Lane {
    const key = accountKey(who);
    const lane = this.#lanes.get(key) ?? {
      who,
      key,
      waiting: [],
      isLazy: true,
      thread: undefined,
      given: 0,
      sinceMs: this.#now(),
      charged: 0,
    };
    this.#lanes.set(key, lane);
    return lane;
  }

  /** How many descriptors of `who` are still to be closed. */
  backlogOf(who: Account): number {
    const lane = this.#lanes.size === 0 ? undefined : this.#lanes.get(accountKey(who));
    return lane === undefined ? 0 : lane.waiting.length + lane.given;
  }

  /** @throws FailureError "quota" when more of his descriptors wait to be closed than he may have */
  checkBacklog(who: Account): void {
    const backlog = this.backlogOf(who);
    const { maxFdsPerUser } = this.#options.quota.limits;
    if (backlog <= maxFdsPerUser) return;
    throw new FailureError(
      "quota",
      `Cannot go on: ${backlog} descriptors that user ${who.uid} has sent take long to close, limits.maxFdsPerUser is ${maxFdsPerUser}`,
    );
  }

  /** To be called when a turn is done: hands to threads what has come, and notes what they have done. */
  settle(): void {
    if (this.#lanes.size === 0) return;
    for (const lane of this.#lanes.values()) {
      if (lane.thread?.isBusy === false) this.#finish(lane);
      if (lane.thread === undefined && this.#isTime(lane)) this.#begin(lane);
      this.#account(lane);
      if (lane.thread === undefined && lane.waiting.length === 0) this.#lanes.delete(lane.key);
    }
    if (this.#lanes.size > 0) this.#lookAgain();
  }

  #isTime({ waiting, isLazy, sinceMs }: Lane): boolean {
    if (waiting.length === 0) return false;
    if (!isLazy || this.#isEnding || this.#now() - sinceMs >= LOOK_MS) return true;
    // That we wait is not to bring anybody near his limit.
    return waiting.length >= Math.min(BATCH, Math.floor(this.#options.quota.limits.maxFdsPerUser / 4));
  }

  #finish(lane: Lane): void {
    if (lane.thread !== undefined) this.#idle.push(lane.thread);
    lane.thread = undefined;
    lane.given = 0;
  }

  #begin(lane: Lane): void {
    const thread = this.#threadFor(lane.who.uid);
    const numbers = lane.waiting.splice(0, CallThread.MAX_CALLS);
    if (thread === "none") for (const number of numbers) closeNow(number);
    else if (thread === "busy") lane.waiting.unshift(...numbers);
    else {
      lane.thread = thread;
      lane.given = numbers.length;
      lane.isLazy = lane.waiting.length === 0;
      lane.sinceMs = this.#now();
      thread.close(numbers);
    }
  }

  /** @returns "busy" when there is none at the moment, "none" when there never is one here: then we close ourselves */
  #threadFor(uid: number): ClosingThread | "busy" | "none" {
    let taken = 0;
    for (const { thread, who } of this.#lanes.values()) if (thread !== undefined && who.uid === uid) taken += 1;
    if (taken >= MAX_THREADS_PER_USER) return "busy";
    const idle = this.#idle.pop();
    if (idle !== undefined) return idle;
    const mayStart = this.#threadCount < MAX_THREADS || taken === 0;
    const started = mayStart ? this.#startThread() : undefined;
    if (started !== undefined) this.#threadCount += 1;
    return started ?? (this.#threadCount > 0 ? "busy" : "none");
  }

  #account(lane: Lane): void {
    const held = lane.waiting.length + lane.given;
    const isLate = lane.charged > 0 || this.#now() - lane.sinceMs > LATE_MS;
    const more = (isLate ? held : 0) - lane.charged;
    if (more > 0) this.#options.quota.restore(lane.who, { fds: more });
    else if (more < 0) this.#options.quota.release(lane.who, { fds: -more });
    lane.charged += more;
  }

  #lookAgain(): void {
    if (this.#isTimerSet) return;
    this.#isTimerSet = true;
    this.#options.setTimer(LOOK_MS, () => {
      this.#isTimerSet = false;
      this.settle();
    });
  }

  /** Waits a moment for what is left; the end of the process closes the rest. */
  [Symbol.dispose](): void {
    this.#isEnding = true;
    const untilMs = performance.now() + LAST_WAIT_MS;
    for (this.settle(); this.#lanes.size > 0 && performance.now() < untilMs; this.settle())
      for (const { thread } of this.#lanes.values()) thread?.wait(LOOK_MS);
    for (const thread of this.#idle) thread.giveBack();
    for (const { thread } of this.#lanes.values()) thread?.giveBack();
    this.#lanes.clear();
    this.#idle.length = 0;
  }
}

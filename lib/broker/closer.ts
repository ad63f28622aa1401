/**
 * Closes descriptors that strangers have opened, or have had in their hands. close(2) can take as long as its sender likes, so
 * it is threads that make nothing else who do it; ours goes on.
 *
 * Each user, and each context of a user, has a lane: one thread at a time works for it, and what comes meanwhile waits. So
 * whoever sends something that cannot be closed holds up his own descriptors and nobody else's. What is late, each by its own
 * time, counts among the descriptors that he may have (maxFdsPerUser); with more than that, late or not, he is shown out.
 */
import { CallThread, type CloseFd, closeNow, constants, duplicateFd, type FileStatus, OwnedFd } from "../../ffi/mod.ts";
import { FailureError } from "../errors.ts";
import type { FdType } from "../policy/fd-facts.ts";
import { forget, isTime, keepTime, LAZY_MS, type Lane, newLane } from "./closing-lane.ts";
import { type ClosingThread, ClosingThreads } from "./closing-threads.ts";
import { type Devices, isDrained, isHarmless, knownDevices } from "./harmless.ts";
import { type Account, accountKey, type Quota } from "./quota.ts";

/** How often threads that have work are looked at, when nothing else happens. */
const LOOK_MS = LAZY_MS;
/** How long the end of the broker waits for what is still to be closed. */
const LAST_WAIT_MS = 1000;

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
  readonly #devices: Devices = knownDevices();
  readonly #lanes: Map<string, Lane> = new Map();
  readonly #threads: ClosingThreads;
  readonly #now: () => number;
  #isTimerSet = false;
  #isEnding = false;

  constructor(options: CloserOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
    this.#threads = new ClosingThreads(options.startThread);
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

  /** Of what `who` has sent, for somebody else. How many there are, and when they are closed, is up to others: so they hold up
   *  nothing that is closed in his name, and are not counted with it. @throws SyscallError */
  copy(fd: OwnedFd, who: Account): OwnedFd {
    return duplicateFd(fd, this.closingFor(copiesOf(who)));
  }

  /** How many copies of what `who` has sent are still to be closed. */
  copiesLeftOf(who: Account): number {
    return this.backlogOf(copiesOf(who));
  }

  #lane(who: Account): Lane {
    const key = accountKey(who);
    const lane = this.#lanes.get(key) ?? newLane(who, key, this.#now());
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
      `Cannot go on: ${backlog} descriptors that user ${who.uid} has sent wait to be closed, limits.maxFdsPerUser is ${maxFdsPerUser}; send fewer at once, or raise it in shmlink.toml`,
    );
  }

  /** To be called when a turn is done: hands to threads what has come, and notes what they have done. */
  settle(): void {
    if (this.#lanes.size === 0) return;
    const nowMs = this.#now();
    for (const lane of this.#lanes.values()) {
      keepTime(lane, nowMs);
      if (lane.thread?.isBusy === false) this.#finish(lane);
      if (lane.thread === undefined && this.#isTime(lane)) this.#begin(lane);
      this.#account(lane);
      if (lane.thread === undefined && lane.waiting.length === 0) this.#lanes.delete(lane.key);
    }
    if (this.#lanes.size > 0) this.#lookAgain();
  }

  #isTime(lane: Lane): boolean {
    if (this.#isEnding) return lane.waiting.length > 0;
    return isTime(lane, this.#now(), this.#options.quota.limits.maxFdsPerUser);
  }

  #finish(lane: Lane): void {
    if (lane.thread !== undefined) this.#threads.putBack(lane.thread);
    lane.thread = undefined;
    forget(lane, lane.given);
    lane.given = 0;
  }

  #begin(lane: Lane): void {
    const thread = this.#threadFor(lane.who.uid);
    const numbers = lane.waiting.splice(0, CallThread.MAX_CALLS);
    if (thread === "none") {
      for (const number of numbers) closeNow(number);
      forget(lane, numbers.length);
    } else if (thread === "busy") lane.waiting.unshift(...numbers);
    else {
      lane.thread = thread;
      lane.given = numbers.length;
      lane.isLazy = lane.waiting.length === 0;
      lane.sinceMs = this.#now();
      thread.close(numbers);
    }
  }

  #threadFor(uid: number): ClosingThread | "busy" | "none" {
    let taken = 0;
    for (const { thread, who } of this.#lanes.values()) if (thread !== undefined && who.uid === uid) taken += 1;
    return this.#threads.take(taken);
  }

  #account(lane: Lane): void {
    const more = lane.late - lane.charged;
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
    this.#threads[Symbol.dispose]();
    for (const { thread } of this.#lanes.values()) thread?.giveBack();
    this.#lanes.clear();
  }
}

/** In whose name they are closed: of the same user, since how long that takes is up to him. */
function copiesOf(who: Account): Account {
  return { uid: who.uid, context: { engine: "", app: "copies", instance: accountKey(who) } }; // no context has such a name
}

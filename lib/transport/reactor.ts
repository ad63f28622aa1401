/**
 * One thread's event loop over epoll(7). It blocks in the kernel until something happens: no descriptor ready and no
 * timer due means no wake-up at all. While it runs, the runtime's own event loop (promises, process.on) does not.
 *
 * Timers share one timerfd, which is programmed for the first of them, and nobody looks at a clock before it has run out. A
 * time limit of epoll_wait(2) would be programmed, and the clock asked twice, for each message that comes: a twentieth of the
 * time that a broker takes to answer one. It may run out for a timer that was cancelled: a wake-up for nothing, once.
 *
 * The race it is written against: a callback closes another registration of the same batch, whose number is then
 * reused. Every registration has a token of its own, never used twice at a time, so a stale event finds nobody.
 */
import {
  type BorrowedFd,
  borrowFd,
  constants,
  epollAdd,
  epollCreate,
  epollModify,
  epollRemove,
  epollWait,
  errno,
  type OwnedFd,
  pollPair,
  SECOND_IS_READY,
  SyscallError,
  timerCreate,
  timerSet,
} from "../../ffi/mod.ts";
import { TimerHeap } from "../util/timer-heap.ts";
import { RegularFiles } from "./regular-files.ts";

const MAX_TIMEOUT_MS = 0x7fffffff; // int of epoll_wait(2)
/** The token of the timerfd. */
const ALARM = 0;

export type Registration = {
  /** What to wait for from now on; 0 leaves only EPOLLERR and EPOLLHUP, which cannot be masked. */
  modify(events: number): void;
  /** Forgets the descriptor. To be called before it is closed. Safe to call twice. */
  remove(): void;
};

export type TimerHandle = { cancel(): void };

type Entry = {
  readonly token: number;
  readonly fd: BorrowedFd;
  readonly callback: (events: number) => void;
  events: number;
};

export class Reactor implements Disposable {
  readonly #epoll: OwnedFd;
  readonly #entries: Map<number, Entry> = new Map();
  /** Descriptor number → who has registered it last. */
  readonly #tokens: Map<number, number> = new Map();
  readonly #files: RegularFiles<Entry> = new RegularFiles();
  readonly #timers: TimerHeap = new TimerHeap();
  readonly #alarm: OwnedFd;
  /** When it runs out. */
  #alarmMs: number = Number.POSITIVE_INFINITY;
  /** A timer may be due: only then the clock is asked. */
  #isDue = false;
  /** Who wakes us from poll(2) and not through the epoll instance. */
  #direct: Entry | undefined;
  #lastToken = 0;
  #running = false;
  #stopRequested = false;

  constructor() {
    using made = new DisposableStack();
    this.#epoll = made.use(epollCreate());
    this.#alarm = made.use(timerCreate());
    epollAdd(this.#epoll, this.#alarm, constants.EPOLLIN | constants.EPOLLET, ALARM); // by edges: it is never read
    made.move();
  }

  /**
   * Calls `callback` with the EPOLL* bits whenever `fd` is ready (level-triggered unless EPOLLET is asked for).
   * A regular file, which epoll(7) refuses, counts as ready for whatever it is asked for, in every turn: modify(0)
   * when there is nothing to do with it, or the loop never sleeps. The descriptor stays the caller's.
   * @throws SyscallError EEXIST when the descriptor is registered already
   */
  add(fd: BorrowedFd, events: number, callback: (events: number) => void): Registration {
    // A plain number, so that a closed OwnedFd does not throw here; #tokens guards against its reuse.
    const entry: Entry = { token: this.#nextToken(), fd: borrowFd(fd.number), callback, events };
    this.#register(entry);
    this.#entries.set(entry.token, entry);
    return { modify: (wanted) => this.#modify(entry, wanted), remove: () => this.#remove(entry) };
  }

  /** add() for the one descriptor that is ready most often, for reading: we sleep on it itself. A kernel that wakes us on
   *  the processor of who made it ready (SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP) cannot do so through an epoll instance. */
  addDirect(fd: BorrowedFd, callback: (events: number) => void): Pick<Registration, "remove"> {
    if (this.#direct !== undefined) throw new Error("The reactor has a direct descriptor already");
    const entry: Entry = { token: this.#nextToken(), fd, callback, events: constants.EPOLLIN };
    this.#direct = entry;
    this.#entries.set(entry.token, entry);
    const remove = (): void => {
      this.#entries.delete(entry.token);
      if (this.#direct === entry) this.#direct = undefined;
    };
    return { remove };
  }

  /** Can be read when a descriptor is ready, but the direct one: who keeps our thread in its callback may look at it. */
  get others(): BorrowedFd {
    return this.#epoll;
  }

  /** When something is due: until then the callback of the direct one may keep our thread, by performance.now(). */
  get dueMs(): number {
    return this.#files.size > 0 ? 0 : (this.#timers.nextDueMs ?? Number.POSITIVE_INFINITY);
  }

  #nextToken(): number {
    do this.#lastToken = (this.#lastToken + 1) >>> 0;
    while (this.#lastToken === ALARM || this.#entries.has(this.#lastToken));
    return this.#lastToken;
  }

  #register(entry: Entry): void {
    try {
      epollAdd(this.#epoll, entry.fd, entry.events, entry.token);
      this.#tokens.set(entry.fd.number, entry.token);
    } catch (error) {
      if (!(error instanceof SyscallError) || error.errno !== errno.EPERM) throw error;
      this.#files.add(entry);
    }
  }

  #modify(entry: Entry, events: number): void {
    if (!this.#entries.has(entry.token)) throw new Error(`Cannot modify fd ${entry.fd.number}: it was removed`);
    if (entry.events === events) return;
    entry.events = events;
    if (!this.#files.has(entry)) epollModify(this.#epoll, entry.fd, events, entry.token);
  }

  #remove(entry: Entry): void {
    if (!this.#entries.delete(entry.token)) return;
    if (this.#files.remove(entry)) return;
    if (this.#tokens.get(entry.fd.number) !== entry.token) return; // closed early, and the number is somebody else's
    this.#tokens.delete(entry.fd.number);
    try {
      epollRemove(this.#epoll, entry.fd);
    } catch (error) {
      // Closed before it was removed: the kernel has forgotten it already.
      const { EBADF, ENOENT } = errno;
      if (!(error instanceof SyscallError) || (error.errno !== EBADF && error.errno !== ENOENT)) throw error;
    }
  }

  /** Calls `callback` once, not before `delayMs` from now. */
  setTimer(delayMs: number, callback: () => void): TimerHandle {
    const timer = this.#timers.add(performance.now() + delayMs, callback);
    if (timer.dueMs < this.#alarmMs) this.#program(timer.dueMs, delayMs);
    return { cancel: () => this.#timers.remove(timer) };
  }

  #program(dueMs: number, delayMs: number): void {
    if (delayMs <= 0) {
      this.#isDue = true; // in this turn, or the next one, which does not sleep
      return;
    }
    timerSet(this.#alarm, delayMs);
    this.#alarmMs = dueMs;
  }

  /** Waits and calls until stop(). What a callback throws comes out here, and run() may be called again.
   *  @throws Error when nothing is registered and no timer is set: it could never end */
  run(): void {
    if (this.#running) throw new Error("The reactor is running already");
    this.#running = true;
    try {
      while (!this.#stopRequested) {
        if (this.#entries.size === 0 && this.#timers.size === 0) throw new Error("The reactor has nothing to wait for");
        this.runOnce(-1);
      }
    } finally {
      this.#running = false;
      this.#stopRequested = false;
    }
  }

  /** Ends run() after the events that are at hand; before run(), lets it return at once. */
  stop(): void {
    this.#stopRequested = true;
  }

  /** One turn: waits until something is ready or due, at most `timeoutMs` (-1: no limit), and calls for it.
   *  A signal may end it early. Not to be called by a callback. */
  runOnce(timeoutMs: number): void {
    try {
      if (this.#direct !== undefined) this.#waitForBoth(this.#direct, timeoutMs);
      else this.#wait(timeoutMs);
    } catch (error) {
      this.#expectAlarm(); // it may have run out behind the one that throws, and is told of once
      throw error;
    }
    if (this.#files.size > 0) this.#files.run();
    if (this.#isDue) this.#runTimers();
  }

  #wait(timeoutMs: number): void {
    epollWait(this.#epoll, this.#timeoutMs(timeoutMs), this.#visit);
  }

  #waitForBoth({ fd, callback }: Entry, timeoutMs: number): void {
    const ready = pollPair(fd, this.#epoll, this.#timeoutMs(timeoutMs));
    if ((ready & SECOND_IS_READY) !== 0) epollWait(this.#epoll, 0, this.#visit);
    const events = ready & ~SECOND_IS_READY;
    if (events !== 0 && this.#direct?.fd === fd) callback(events);
  }

  readonly #visit = (token: number, events: number): void => {
    if (token === ALARM) this.#expectAlarm();
    else this.#entries.get(token)?.callback(events);
  };

  #expectAlarm(): void {
    this.#alarmMs = Number.POSITIVE_INFINITY;
    this.#isDue = true;
  }

  #timeoutMs(wantedMs: number): number {
    if (this.#isDue || (this.#files.size > 0 && this.#files.isReady)) return 0;
    return wantedMs < 0 ? -1 : Math.min(Math.ceil(wantedMs), MAX_TIMEOUT_MS);
  }

  #runTimers(): void {
    this.#isDue = false;
    // Up to now, not up to a later now: a timer that sets itself again with 0 must not starve the descriptors.
    const nowMs = performance.now();
    const programmedMs = this.#alarmMs;
    this.#alarmMs = Number.NEGATIVE_INFINITY; // what is set meanwhile waits until the first of all is known
    try {
      for (let timer = this.#timers.take(nowMs); timer !== undefined; timer = this.#timers.take(nowMs))
        timer.callback();
    } finally {
      this.#alarmMs = programmedMs;
      const { nextDueMs } = this.#timers;
      if (nextDueMs !== undefined && nextDueMs < programmedMs) this.#program(nextDueMs, nextDueMs - performance.now());
    }
  }

  /** Closes what is its own; registered descriptors stay open. Safe to call twice. */
  [Symbol.dispose](): void {
    this.#epoll.close();
    this.#alarm.close();
    this.#alarmMs = Number.NEGATIVE_INFINITY; // nothing is programmed any more
    this.#direct = undefined;
    this.#entries.clear();
    this.#tokens.clear();
    this.#files.clear();
  }
}

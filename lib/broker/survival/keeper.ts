/**
 * Descriptors in the store, the service manager's or a holder's, each under a name of its own, and the state file that says
 * what they stand for. Invariant: a line of the state names only descriptors that the store was given before; so whatever
 * moment we are killed at, what is there is whole.
 *
 * Things that come and go quickly never trouble the store: they are put there a moment after they came.
 */
import { type BorrowedFd, fstat, type OwnedFd, SyscallError } from "../../../ffi/mod.ts";
import type { Logger } from "../../log.ts";
import { namesIn, readLeft } from "./state-file.ts";
import { isStoredName, type Store, StoredNames } from "./stored-names.ts";
import { isStateName, StoredState, stateNames } from "./stored-state.ts";

/** How long a thing has to be there before it is put into the store; and how soon the manager is asked again when busy. */
const SETTLE_MS = 50;
/** A store that refuses so many in a row is busy; fewer may be something of their own that is wrong with them. */
const MAX_REFUSED = 8;
/** FileDescriptorStoreMax= of the units. The manager compares each descriptor with all that it has, so a store of ten times
 *  as many would cost it a hundred times as much. */
export const MAX_STORED = 4096;

/** Whether a name of an inherited descriptor is one that is given here. */
export function isKept(name: string): boolean {
  return isStoredName(name) || isStateName(name);
}

type Waiting = { readonly save: () => object; readonly fds: readonly BorrowedFd[]; readonly done: () => void };

/** What was found in the store: a value, and its descriptors, now the receiver's. */
export type Found = { readonly key: string; readonly value: unknown; readonly fds: readonly OwnedFd[] };

export type KeeperOptions = {
  readonly store: Store;
  readonly logger: Logger;
  readonly setTimer: (delayMs: number, callback: () => void) => void;
};

export class Keeper implements Disposable {
  readonly #options: KeeperOptions;
  #enabled: boolean;
  #isTimerSet = false;
  #isFullLogged = false;
  #nWaitingFds = 0;
  readonly #waiting: Map<string, Waiting> = new Map();
  /** key → names of its descriptors */
  readonly #kept: Map<string, readonly string[]> = new Map();
  readonly #stored: StoredNames;
  readonly #state: StoredState;

  constructor(options: KeeperOptions) {
    this.#options = options;
    this.#enabled = options.store.isEnabled;
    this.#stored = new StoredNames(options.store);
    this.#state = new StoredState(options.store, this.#stored);
  }

  /** Whether there is a store at all, as far as we can know. */
  get isEnabled(): boolean {
    return this.#enabled;
  }

  /**
   * Keeps a value and its descriptors under `key`, a moment from now.
   * @param save  asked for the value when the time has come
   * @param fds  lent until remove() or `done`, whichever is first; called once they are in the store
   * @returns false when there is no room
   */
  put(key: string, save: () => object, fds: readonly BorrowedFd[], done: () => void = () => undefined): boolean {
    if (!this.hasRoom(fds.length)) return false;
    this.#waiting.set(key, { save, fds, done });
    this.#nWaitingFds += fds.length;
    this.#schedule();
    return true;
  }

  /** Whether so many more descriptors could be kept now. */
  hasRoom(nFds: number): boolean {
    if (!this.#enabled) return false;
    const all = this.#stored.size + this.#nWaitingFds + nFds;
    return all <= MAX_STORED - 2 || this.#refuse(); // two for the state file and its successor
  }

  #refuse(): false {
    if (!this.#isFullLogged)
      this.#options.logger.warn(`The store is full: what is made from now on is not listed by a broker after this one`);
    this.#isFullLogged = true;
    return false;
  }

  /** Forgets `key`. Nothing happens for one that is not there. */
  remove(key: string): void {
    if (!this.#enabled || this.#takeWaiting(key) !== undefined) return;
    const names = this.#kept.get(key);
    if (names === undefined) return;
    this.#kept.delete(key);
    this.#state.delete(key);
    for (const name of names) this.#stored.release(key, name);
    this.#isFullLogged = false;
    this.#schedule();
  }

  #takeWaiting(key: string): Waiting | undefined {
    const waiting = this.#waiting.get(key);
    this.#waiting.delete(key);
    this.#nWaitingFds -= waiting?.fds.length ?? 0;
    return waiting;
  }

  #schedule(): void {
    if (this.#isTimerSet) return;
    this.#isTimerSet = true;
    this.#options.setTimer(SETTLE_MS, () => {
      this.#isTimerSet = false;
      if (this.#enabled && !this.flush()) this.#schedule();
    });
  }

  /** Does at once what waits. @returns false when the manager is too busy to hear all of it, or we are out of descriptors */
  flush(): boolean {
    if (!this.#enabled) return true;
    const isReady = this.#state.prepare(this.#waiting.size > 0);
    const isDone = isReady && this.#state.flush() && this.#stored.unstoreReleased() && this.#storeWaiting();
    if (!isDone && !this.#options.store.isEnabled) this.#giveUp();
    return isDone || !this.#enabled;
  }

  /** There is no store any more. */
  #giveUp(): void {
    this.#enabled = false;
    for (const [key, { done }] of this.#waiting) {
      this.#takeWaiting(key);
      done();
    }
  }

  /** What is refused waits behind the others: it must not keep them from being stored. */
  #storeWaiting(): boolean {
    let isDone = true;
    let refusedInARow = 0;
    for (const [key, waiting] of [...this.#waiting]) {
      if (this.#storeOne(key, waiting)) {
        refusedInARow = 0;
        continue;
      }
      isDone = false;
      this.#waiting.delete(key);
      this.#waiting.set(key, waiting);
      refusedInARow += 1;
      if (refusedInARow === MAX_REFUSED) break;
    }
    return isDone;
  }

  #storeOne(key: string, { save, fds, done }: Waiting): boolean {
    const names = this.#tryStore(key, fds);
    if (names === undefined) return false;
    this.#takeWaiting(key);
    if (names !== "never") {
      this.#kept.set(key, names);
      this.#state.set(key, { ...save(), names });
    }
    done();
    return true;
  }

  /** @returns undefined when the store cannot take them now; "never" for what the kernel says nothing of, as a FUSE file whose
   *  server has changed its mind: that must neither end us nor keep others waiting */
  #tryStore(key: string, fds: readonly BorrowedFd[]): readonly string[] | undefined | "never" {
    try {
      return this.#stored.storeAll(key, fds);
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
      this.#options.logger.warn(`Cannot keep "${key}" for a broker after this one: ${error.message}`);
      return "never";
    }
  }

  /**
   * Takes over what an earlier run left. Each find is handed to `adopt`, which owns its descriptors and says whether it
   * still stands for something; what does not is forgotten. @param stored  names that isKept() and their descriptors; taken
   */
  restore(stored: ReadonlyMap<string, OwnedFd>, adopt: (found: Found) => boolean): void {
    const left = new Map(stored);
    this.#enabled ||= stored.size > 0;
    const states = stateNames(left.keys());
    this.#stored.startAfter(left.keys());
    for (const name of states) {
      using fd = left.get(name);
      left.delete(name);
      if (fd !== undefined && name === states[0]) this.#adoptAll(fd, left, adopt);
    }
    this.#state.succeed(states);
    for (const [name, fd] of left) {
      fd.close();
      if (!this.#stored.has(name)) this.#stored.unstoreLater([name]); // it has no line that counts
    }
    this.#schedule();
  }

  #adoptAll(fd: OwnedFd, left: ReadonlyMap<string, OwnedFd>, adopt: (found: Found) => boolean): void {
    const lines = new Map<string, string>();
    for (const [key, value] of readLeft(fd, this.#options.logger)) {
      const names = namesIn(value);
      const fds = names.flatMap((name) => left.get(name)?.dup() ?? []);
      const inodes = inodesOf(fds);
      if (inodes === undefined || fds.length < names.length) for (const one of fds) one.close();
      else if (adopt({ key, value, fds })) {
        lines.set(key, JSON.stringify([key, value]));
        this.#kept.set(key, names);
        for (const [index, name] of names.entries()) this.#stored.hold(key, name, inodes[index], fds[index]);
      }
    }
    if (lines.size > 0) this.#state.replace(lines);
  }

  /** Stays as it is from now on, for who comes after us. What was put a moment ago is stored first. */
  freeze(): void {
    this.flush();
    if (this.#enabled) this.#state.dropIfEmpty();
    this.#enabled = false;
  }

  [Symbol.dispose](): void {
    this.#enabled = false;
    this.#state[Symbol.dispose]();
  }
}

/** @returns undefined when the kernel does not say */
function inodesOf(fds: readonly BorrowedFd[]): readonly bigint[] | undefined {
  try {
    return fds.map((one) => fstat(one).ino);
  } catch (error) {
    if (error instanceof SyscallError) return undefined;
    throw error;
  }
}

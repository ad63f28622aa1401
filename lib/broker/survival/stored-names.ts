/**
 * Which descriptors are in the store and under which names: each open file once, however many things hold it. A name is
 * never used twice, so that taking an old one out cannot take a new one with it.
 */
import { type BorrowedFd, fstat, isSameFile, SyscallError } from "../../../ffi/mod.ts";

const PREFIX = "keep.";

/** Where descriptors outlive us: the service manager's, or a process of our own. */
export interface Store {
  readonly isEnabled: boolean;
  /** @returns false when it cannot take it now; the descriptor stays the caller's */
  store(name: string, fd: BorrowedFd): boolean;
  unstore(name: string): boolean;
}

type Holder = { readonly key: string; readonly fd: BorrowedFd };
/** Mostly there is one holder, and one file with this number: lists take a third of the memory of maps. */
type Stored = { readonly name: string; readonly ino: bigint; readonly holders: Holder[] };

export function isStoredName(name: string): boolean {
  return name.startsWith(PREFIX);
}

export class StoredNames {
  readonly #store: Store;
  #lastName = 0;
  readonly #byName: Map<string, Stored> = new Map();
  readonly #byInode: Map<bigint, readonly Stored[]> = new Map();
  /** Names to be taken out of the store. */
  readonly #released: string[] = [];

  constructor(store: Store) {
    this.#store = store;
  }

  get size(): number {
    return this.#byName.size;
  }

  has(name: string): boolean {
    return this.#byName.has(name);
  }

  /** New names are none of these. */
  startAfter(names: Iterable<string>): void {
    this.#lastName = Math.max(0, ...[...names].map((name) => Number(name.slice(PREFIX.length)) || 0));
  }

  /** Puts all of them into the store, for `key`. @returns their names; undefined when one could not be put there now
   *  @throws SyscallError for one that never can; none of them is there then */
  storeAll(key: string, fds: readonly BorrowedFd[]): string[] | undefined {
    const names: string[] = [];
    try {
      for (const fd of fds) {
        const name = this.#storeOne(key, fd);
        if (name === undefined) break;
        names.push(name);
      }
      return names.length === fds.length ? names : undefined;
    } finally {
      if (names.length < fds.length) for (const done of names) this.release(key, done);
    }
  }

  /** The manager keeps one of each open file, so what is there already is used again. */
  #storeOne(key: string, fd: BorrowedFd): string | undefined {
    const { ino } = fstat(fd);
    for (const other of this.#byInode.get(ino) ?? []) {
      const held = other.holders[0]?.fd;
      if (held === undefined || isClosed(held) || !isSame(held, fd)) continue;
      addHolder(other, key, fd);
      return other.name;
    }
    const name = `${PREFIX}${this.#lastName + 1}`;
    if (!this.#store.store(name, fd)) return undefined;
    this.#lastName += 1;
    this.#note({ name, ino, holders: [{ key, fd }] });
    return name;
  }

  #note(stored: Stored): void {
    this.#byName.set(stored.name, stored);
    this.#byInode.set(stored.ino, [...(this.#byInode.get(stored.ino) ?? []), stored]);
  }

  /** It is in the store already, from an earlier run. */
  hold(key: string, name: string, ino: bigint | undefined, fd: BorrowedFd | undefined): void {
    if (ino === undefined || fd === undefined) return;
    const known = this.#byName.get(name);
    if (known === undefined) this.#note({ name, ino, holders: [{ key, fd }] });
    else addHolder(known, key, fd);
  }

  /** `key` does not hold it any more. */
  release(key: string, name: string): void {
    const stored = this.#byName.get(name);
    if (stored === undefined) return;
    const index = stored.holders.findIndex((holder) => holder.key === key);
    if (index >= 0) stored.holders.splice(index, 1);
    if (stored.holders.length > 0) return;
    this.#byName.delete(name);
    const others = this.#byInode.get(stored.ino)?.filter((other) => other !== stored) ?? [];
    if (others.length === 0) this.#byInode.delete(stored.ino);
    else this.#byInode.set(stored.ino, others);
    this.#released.push(name);
  }

  unstoreLater(names: readonly string[]): void {
    this.#released.push(...names);
  }

  /** @returns false when the store is too busy to hear all of it */
  unstoreReleased(): boolean {
    for (let name = this.#released[0]; name !== undefined; name = this.#released[0]) {
      if (!this.#store.unstore(name)) return false;
      this.#released.shift();
    }
    return true;
  }
}

/** A key holds a file once, by what it gave last. */
function addHolder({ holders }: Stored, key: string, fd: BorrowedFd): void {
  const index = holders.findIndex((holder) => holder.key === key);
  holders[index < 0 ? holders.length : index] = { key, fd };
}

/** Where kcmp(2) is not allowed, or not there, two of one file are kept. */
function isSame(held: BorrowedFd, fd: BorrowedFd): boolean {
  try {
    return isSameFile(held, process.pid, fd.number);
  } catch (error) {
    if (error instanceof SyscallError) return false;
    throw error;
  }
}

function isClosed(fd: BorrowedFd): boolean {
  return "closed" in fd && fd.closed === true;
}

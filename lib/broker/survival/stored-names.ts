/**
 * Which descriptors are in the store and under which names: each open file once, however many things hold it. A name is
 * never used twice, so that taking an old one out cannot take a new one with it.
 */
import { type BorrowedFd, fstat, isSameFile } from "../../../ffi/mod.ts";

const PREFIX = "keep.";

/** Where descriptors outlive us: the service manager's, or a process of our own. */
export interface Store {
  readonly isEnabled: boolean;
  /** @returns false when it cannot take it now; the descriptor stays the caller's */
  store(name: string, fd: BorrowedFd): boolean;
  unstore(name: string): boolean;
}

type Stored = { readonly name: string; readonly ino: bigint; readonly holders: Map<string, BorrowedFd> };

export function isStoredName(name: string): boolean {
  return name.startsWith(PREFIX);
}

export class StoredNames {
  readonly #store: Store;
  #lastName = 0;
  readonly #byName: Map<string, Stored> = new Map();
  readonly #byInode: Map<bigint, Set<Stored>> = new Map();
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

  /** Puts all of them into the store, for `key`. @returns their names; undefined when one could not be put there now */
  storeAll(key: string, fds: readonly BorrowedFd[]): string[] | undefined {
    const names: string[] = [];
    for (const fd of fds) {
      const name = this.#storeOne(key, fd);
      if (name === undefined) {
        for (const done of names) this.release(key, done);
        return undefined;
      }
      names.push(name);
    }
    return names;
  }

  /** The manager keeps one of each open file, so what is there already is used again. */
  #storeOne(key: string, fd: BorrowedFd): string | undefined {
    const { ino } = fstat(fd);
    for (const other of this.#byInode.get(ino) ?? []) {
      const [held] = other.holders.values();
      if (held === undefined || isClosed(held) || !isSameFile(held, process.pid, fd.number)) continue;
      other.holders.set(key, fd);
      return other.name;
    }
    const name = `${PREFIX}${this.#lastName + 1}`;
    if (!this.#store.store(name, fd)) return undefined;
    this.#lastName += 1;
    this.#note({ name, ino, holders: new Map([[key, fd]]) });
    return name;
  }

  #note(stored: Stored): void {
    this.#byName.set(stored.name, stored);
    const others = this.#byInode.get(stored.ino) ?? new Set();
    this.#byInode.set(stored.ino, others.add(stored));
  }

  /** It is in the store already, from an earlier run. */
  hold(key: string, name: string, ino: bigint | undefined, fd: BorrowedFd | undefined): void {
    if (ino === undefined || fd === undefined) return;
    const known = this.#byName.get(name);
    if (known === undefined) this.#note({ name, ino, holders: new Map([[key, fd]]) });
    else known.holders.set(key, fd);
  }

  /** `key` does not hold it any more. */
  release(key: string, name: string): void {
    const stored = this.#byName.get(name);
    if (stored === undefined) return;
    stored.holders.delete(key);
    if (stored.holders.size > 0) return;
    this.#byName.delete(name);
    const others = this.#byInode.get(stored.ino);
    others?.delete(stored);
    if (others?.size === 0) this.#byInode.delete(stored.ino);
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

function isClosed(fd: BorrowedFd): boolean {
  return "closed" in fd && fd.closed === true;
}

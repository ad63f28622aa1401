/**
 * The state file as it lies in the store, under a name that counts up. There is one that counts; a new one is there before
 * the old one goes, so whatever moment we are killed at, one of them is whole.
 */
import { SyscallError } from "../../../ffi/mod.ts";
import { StateFile } from "./state-file.ts";
import type { Store, StoredNames } from "./stored-names.ts";

const PREFIX = "keep-state.";

export function isStateName(name: string): boolean {
  return name.startsWith(PREFIX);
}

/** The names of state files among these, newest first. */
export function stateNames(names: Iterable<string>): string[] {
  const found = [...names].filter((name) => generationOf(name) !== undefined);
  return found.sort((a, b) => (generationOf(b) ?? 0) - (generationOf(a) ?? 0));
}

function generationOf(name: string): number | undefined {
  if (!name.startsWith(PREFIX)) return undefined;
  const generation = Number(name.slice(PREFIX.length));
  return Number.isSafeInteger(generation) ? generation : undefined;
}

export class StoredState implements Disposable {
  readonly #store: Store;
  readonly #names: StoredNames;
  #file: StateFile | undefined;
  #isStored = false;
  #generation = 0;
  /** Names of files that the present one replaces, once it is stored. */
  readonly #outdated: string[] = [];

  /** @param names  takes out of the store what is outdated */
  constructor(store: Store, names: StoredNames) {
    this.#store = store;
    this.#names = names;
  }

  /** Makes a file where there is none yet and one is needed, or a new one for one that is mostly old lines.
   *  @returns false when the system has no descriptor for it now */
  prepare(isNeeded: boolean): boolean {
    try {
      if (isNeeded) this.#file ??= new StateFile();
      if (this.#file?.isWasteful === true) this.replace(this.#file.lines);
      return true;
    } catch (error) {
      if (error instanceof SyscallError) return false;
      throw error;
    }
  }

  set(key: string, value: unknown): void {
    this.#file?.set(key, value);
  }

  delete(key: string): void {
    this.#file?.delete(key);
  }

  /** Begins a new file with these lines. First what may fail. */
  replace(lines: ReadonlyMap<string, string>): void {
    const next = new StateFile(lines);
    this.#file?.[Symbol.dispose]();
    if (this.#isStored) this.#outdated.push(`${PREFIX}${this.#generation}`);
    this.#file = next;
    this.#isStored = false;
  }

  /** What an earlier broker left under these names, newest first, counts no more once there is a new one. */
  succeed(names: readonly string[]): void {
    this.#generation = generationOf(names[0] ?? "") ?? 0;
    this.#outdated.push(...names);
    if (this.#file === undefined) this.#letGoOfOutdated();
  }

  #letGoOfOutdated(): void {
    this.#names.unstoreLater(this.#outdated.splice(0));
  }

  /** Puts a new file into the store, and has the old one taken out. @returns false when the store is too busy */
  flush(): boolean {
    if (this.#file === undefined || this.#isStored) return true;
    if (!this.#store.store(`${PREFIX}${this.#generation + 1}`, this.#file.fd)) return false;
    this.#generation += 1;
    this.#isStored = true;
    this.#letGoOfOutdated();
    return true;
  }

  /** Takes out a file that stands for nothing; who holds it may have nothing else to do. */
  dropIfEmpty(): void {
    if (this.#file?.lines.size !== 0) return;
    if (this.#isStored) this.#names.unstoreLater([`${PREFIX}${this.#generation}`]);
    this.#names.unstoreReleased();
  }

  [Symbol.dispose](): void {
    this.#file?.[Symbol.dispose]();
  }
}

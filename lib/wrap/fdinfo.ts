/**
 * What /proc/PID/fdinfo says of descriptors: O_NONBLOCK, O_ASYNC, and O_CLOEXEC, which no call tells of another
 * process's descriptor. An open file of that folder shows, each time it is read, what the number means by then, so it
 * is kept: opening one costs more than twice what reading it does.
 */
import { constants, type OwnedFd, open, readAt, SyscallError } from "../../ffi/mod.ts";

const TEXT = new Uint8Array(128); // flags are in the second line; an epoll set's file goes on for long
const [NEWLINE, TAB, ZERO, SEVEN] = [10, 9, 48, 55];
const MAX_NUMBER = 2 ** 22;

/** Bounded; the oldest goes first. */
export class Fdinfo implements Disposable {
  readonly #files: Map<number, OwnedFd> = new Map();
  readonly #limit: number;

  constructor(limit = 64) {
    this.#limit = limit;
  }

  /** The flags of open(2) of a thread's descriptor. @returns undefined where it is closed or the thread has gone */
  flags(thread: number, number: number): number | undefined {
    const key = thread * MAX_NUMBER + number;
    const known = this.#files.get(key);
    const flags = known && readFlags(known);
    if (flags !== undefined) return flags;
    this.#drop(key); // of a thread that has ended and whose number came back, perhaps
    const file = tryOpen(`/proc/${thread}/fdinfo/${number}`);
    if (file === undefined) return undefined;
    this.#files.set(key, file);
    if (this.#files.size > this.#limit) this.#drop(this.#files.keys().next().value ?? key);
    return readFlags(file);
  }

  #drop(key: number): void {
    this.#files.get(key)?.close();
    this.#files.delete(key);
  }

  [Symbol.dispose](): void {
    for (const key of [...this.#files.keys()]) this.#drop(key);
  }
}

function tryOpen(path: string): OwnedFd | undefined {
  try {
    return open(path, constants.O_RDONLY);
  } catch (error) {
    if (error instanceof SyscallError) return undefined;
    throw error;
  }
}

function readFlags(file: OwnedFd): number | undefined {
  try {
    return parseFlags(TEXT, readAt(file, TEXT, 0));
  } catch (error) {
    if (error instanceof SyscallError) return undefined; // ENOENT: closed, or gone
    throw error;
  }
}

/** Reads the octal number of the second line, "flags:\t02000002". @returns undefined where there is none */
export function parseFlags(text: Uint8Array, length: number): number | undefined {
  const line = text.indexOf(NEWLINE) + 1;
  const start = text.indexOf(TAB, line) + 1;
  if (line === 0 || start === 0 || start >= length) return undefined;
  let flags = 0;
  for (let at = start; at < length; at++) {
    const digit = text[at] ?? 0;
    if (digit < ZERO || digit > SEVEN) return digit === NEWLINE ? flags : undefined;
    flags = flags * 8 + digit - ZERO;
  }
  return undefined;
}

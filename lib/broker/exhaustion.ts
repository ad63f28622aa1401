/**
 * What is left to do when there are no more descriptors: one is kept in reserve, so that somebody who connects can be let
 * in for long enough to hear why he cannot stay, and the log says what to do, once in a while.
 */
import { constants, errno, getFileLimit, type OwnedFd, open, SyscallError } from "../../ffi/mod.ts";
import type { Fields, Logger } from "../log.ts";

const WARN_EVERY_MS = 10_000;

/** What the system refused, and what to do about it. */
export function explainRefusal(error: SyscallError): string {
  if (error.errno === errno.ENFILE) return "the system is out of descriptors: raise the sysctl fs.file-max";
  if (error.errno !== errno.EMFILE) return error.message;
  const limit = `RLIMIT_NOFILE is ${getFileLimit().soft}`;
  return `the broker is out of descriptors (${limit}): raise LimitNOFILE= of shmlink.service, or ulimit -n where it is started`;
}

/** Tells the log that connections were turned away, not more often than it can be read. */
export class SeldomWarning {
  readonly #logger: Logger;
  #untold = 0;
  #silentUntilMs = 0;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** @param why  of this one; the ones that were left out before are only counted */
  warn(why: string, fields: Fields): void {
    this.#untold += 1;
    const nowMs = performance.now();
    if (nowMs < this.#silentUntilMs) return;
    const count = this.#untold === 1 ? "a connection" : `${this.#untold} connections`;
    this.#logger.warn(`Cannot let in ${count}: ${why}`, fields);
    this.#untold = 0;
    this.#silentUntilMs = nowMs + WARN_EVERY_MS;
  }
}

export class Exhaustion implements Disposable {
  #reserve: OwnedFd | undefined = openReserve();
  readonly #warning: SeldomWarning;

  constructor(logger: Logger) {
    this.#warning = new SeldomWarning(logger);
  }

  /** Calls `act` with room for one descriptor more, which it must have closed when it returns.
   *  @returns false when the reserve could not be had back: somebody else was faster */
  spend(act: () => void): boolean {
    this.#reserve?.close();
    try {
      act();
    } finally {
      this.#reserve = openReserve();
    }
    return this.#reserve !== undefined;
  }

  /** Tells the log that somebody was turned away. */
  warn(error: SyscallError): void {
    this.#warning.warn(explainRefusal(error), { failed: error.message });
  }

  [Symbol.dispose](): void {
    this.#reserve?.close();
    this.#reserve = undefined;
  }
}

function openReserve(): OwnedFd | undefined {
  try {
    return open("/dev/null", constants.O_RDONLY);
  } catch (error) {
    if (error instanceof SyscallError) return undefined;
    throw error;
  }
}

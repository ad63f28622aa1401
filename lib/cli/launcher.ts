/**
 * What bin/shmlink wrote down before the runtime started, because runtimes change it and a wrapped program must find
 * it as it was: the soft limit of open files, the ignored signals, the descriptors that were handed down, and which
 * of the first three were closed. Started without the launcher, what can still be found out is taken from /proc.
 */
import { readFileSync } from "node:fs";

/** Signals that runtimes ignore for themselves. */
const IGNORED_BY_RUNTIMES: ReadonlySet<number> = new Set([13, 25]); // SIGPIPE, SIGXFSZ
const UNLIMITED = 0xffffffffffffffffn; // RLIM_INFINITY of getrlimit(2)

export type LauncherState = {
  /** Soft RLIMIT_NOFILE to restore; undefined when it is not known to have changed. */
  readonly fileLimit: bigint | undefined;
  readonly ignoredSignals: readonly number[];
  /** Descriptors from 3 on that were inherited and not close-on-exec. */
  readonly inheritedFds: readonly number[];
  /** Those of 0, 1 and 2 that we were started without: what is open there now is the runtime's. */
  readonly closedFds: readonly number[];
  readonly lacksStdout: boolean;
};

type Env = Record<string, string | undefined>;

/** Reads the launcher's variables and removes them from `env`, which programs inherit. */
export function takeLauncherState(env: Env): LauncherState {
  const limit = env["SHMLINK_NOFILE"];
  const mask = env["SHMLINK_SIGIGN"];
  delete env["SHMLINK_NOFILE"];
  const fds = env["SHMLINK_FDS"];
  const closedFds = parseNumbers(env["SHMLINK_CLOSED"]);
  delete env["SHMLINK_CLOSED"];
  delete env["SHMLINK_SIGIGN"];
  delete env["SHMLINK_FDS"];
  return {
    fileLimit: parseLimit(limit),
    get ignoredSignals() {
      return findIgnoredSignals(mask); // when a program is to be wrapped: not at every start
    },
    inheritedFds: parseNumbers(fds),
    closedFds,
    lacksStdout: closedFds.includes(1),
  };
}

/** Numbers with spaces between. */
function parseNumbers(text: string | undefined): number[] {
  const words = (text ?? "").split(" ");
  return words.filter((word) => /^\d+$/.test(word)).map(Number);
}

function parseLimit(text: string | undefined): bigint | undefined {
  if (text === "unlimited") return UNLIMITED;
  return text !== undefined && /^\d+$/.test(text) ? BigInt(text) : undefined;
}

/** @param low  the signals from 1 to 31 as the launcher found them, decimal: bit 0 is signal 1 */
function findIgnoredSignals(low: string | undefined): number[] {
  const known = low !== undefined && /^\d{1,10}$/.test(low) ? Number(low) : undefined;
  const own = /^SigIgn:\s*([0-9a-f]{8})([0-9a-f]{8})$/m.exec(readFileSync("/proc/self/status", "latin1"));
  const [, ownHigh = "0", ownLow = "0"] = own ?? [];
  const high = Number.parseInt(ownHigh, 16);
  const isIgnored = (signal: number): boolean => {
    if (signal > 32) return ((high >>> (signal - 33)) & 1) === 1;
    if (signal < 32 && known !== undefined) return ((known >>> (signal - 1)) & 1) === 1;
    return ((Number.parseInt(ownLow, 16) >>> (signal - 1)) & 1) === 1 && !IGNORED_BY_RUNTIMES.has(signal);
  };
  return Array.from({ length: 64 }, (_, index) => index + 1).filter(isIgnored);
}

/**
 * What bin/shmlink wrote down before the runtime started, because runtimes change it and a wrapped program must find
 * it as it was: the soft limit of open files, the ignored and the blocked signals, the descriptors that were handed
 * down, and which of the first three were closed. Started without the launcher, what can still be found out is taken
 * from /proc.
 */
const UNLIMITED = 0xffffffffffffffffn; // RLIM_INFINITY of getrlimit(2)

export type LauncherState = {
  /** Soft RLIMIT_NOFILE to restore; undefined when it is not known to have changed. */
  readonly fileLimit: bigint | undefined;
  /** Bit 0 for signal 1; see inherited-signals.ts. undefined where it is not known. */
  readonly ignored: bigint | undefined;
  /** As `ignored`. */
  readonly blocked: bigint | undefined;
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
  const ignored = env["SHMLINK_SIGIGN"];
  const blocked = env["SHMLINK_SIGBLK"];
  delete env["SHMLINK_NOFILE"];
  const fds = env["SHMLINK_FDS"];
  const closedFds = parseNumbers(env["SHMLINK_CLOSED"]);
  delete env["SHMLINK_CLOSED"];
  delete env["SHMLINK_SIGIGN"];
  delete env["SHMLINK_SIGBLK"];
  delete env["SHMLINK_FDS"];
  return {
    fileLimit: parseLimit(limit),
    ignored: parseMask(ignored),
    blocked: parseMask(blocked),
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

/** As proc(5) has it. */
function parseMask(text: string | undefined): bigint | undefined {
  return text !== undefined && /^[0-9a-f]{16}$/.test(text) ? BigInt(`0x${text}`) : undefined;
}

function parseLimit(text: string | undefined): bigint | undefined {
  if (text === "unlimited") return UNLIMITED;
  return text !== undefined && /^\d+$/.test(text) ? BigInt(text) : undefined;
}

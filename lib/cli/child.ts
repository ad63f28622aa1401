/** Programs that a command starts: found in PATH, given descriptors from 3 on, waited for, told of our signals. */
import {
  type BorrowedFd,
  constants,
  type ExitStatus,
  fcntl,
  getFileLimit,
  kill,
  OwnedFd,
  reapAnyChild,
  SyscallError,
  spawn,
} from "../../ffi/mod.ts";
import { explainExecve, findProgram, needsShell } from "../wrap/find-program.ts";
import { SIGNAL_BASE } from "./exit-codes.ts";
import { blockedSignals, ignoredSignals } from "./inherited-signals.ts";
import type { LauncherState } from "./launcher.ts";

/** Nobody knows a program's number before it runs, so a shell writes down its own and becomes the program. */
const WITH_LISTEN_PID = 'LISTEN_PID=$$; export LISTEN_PID; exec "$@"';
const LISTEN_FDS_START = 3;
/** Where copies wait to be put in place, out of the way of the numbers that they go to. */
const PARKED = 64;

export type ChildOptions = {
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Lent; the program finds them from 3 on. */
  readonly fds: readonly BorrowedFd[];
  /** Tell the program of them as systemd would: LISTEN_FDS, LISTEN_PID, and these LISTEN_FDNAMES. */
  readonly listenNames?: readonly string[];
  /** The first of them is its stdin and stdout as well, as inetd(8) did it. */
  readonly stdio?: boolean;
  readonly launcher: LauncherState;
};

/** @returns its pid @throws CommandError not found (127), not executable (126) */
export function startChild(options: ChildOptions): number {
  const { argv, fds, launcher } = options;
  const [name = ""] = argv;
  const path = findProgramOf(options);
  const command =
    options.listenNames === undefined
      ? [path, ...argv]
      : ["/bin/sh", "sh", "-c", WITH_LISTEN_PID, "sh", path, ...argv.slice(1)];
  const [file = "", ...words] = command;
  const parked = new DisposableStack();
  try {
    const copies = fds.map((fd) => parked.use(park(fd)));
    const placed = copies.map((fd, index) => ({ from: fd.number, to: LISTEN_FDS_START + index }));
    const first = copies[0]?.number;
    const stdio = options.stdio === true && first !== undefined ? [0, 1].map((to) => ({ from: first, to })) : [];
    const limit =
      launcher.fileLimit === undefined ? {} : { fileLimit: { soft: launcher.fileLimit, hard: getFileLimit().hard } };
    const given = { env: environment(options), fds: [...placed, ...stdio] };
    const signals = { ignoredSignals: ignoredSignals(launcher), blockedSignals: blockedSignals(launcher) };
    const rest = { ...given, ...signals, ...limit };
    try {
      return spawn({ path: file, argv: words, ...rest }).pid;
    } catch (error) {
      if (!needsShell(error)) throw error;
      return spawn({ path: "/bin/sh", argv: ["sh", path, ...argv.slice(1)], ...rest }).pid;
    }
  } catch (error) {
    throw explainExecve(error, name);
  } finally {
    parked.dispose();
  }
}

/** @throws CommandError not found (127), not executable (126) */
export function findProgramOf({ argv, env }: Pick<ChildOptions, "argv" | "env">): string {
  return findProgram(argv[0] ?? "", env["PATH"] ?? "/usr/local/bin:/usr/bin:/bin");
}

function park(fd: BorrowedFd): OwnedFd {
  return new OwnedFd(fcntl(fd, constants.F_DUPFD_CLOEXEC, PARKED));
}

function environment({ env, fds, listenNames }: ChildOptions): string[] {
  const told =
    listenNames === undefined ? {} : { LISTEN_FDS: String(fds.length), LISTEN_FDNAMES: listenNames.join(":") };
  return Object.entries({ ...env, ...told }).flatMap(([name, value]) =>
    value === undefined ? [] : [`${name}=${value}`],
  );
}

/** The exit code as a shell reports it. */
export function exitCodeOf(status: ExitStatus): number {
  return status.kind === "exited" ? status.code : SIGNAL_BASE + status.signal;
}

/** Those that run. Call reap() on SIGCHLD. */
export class Children {
  readonly #running: Set<number> = new Set();
  /** Of the one that ended last. */
  lastExitCode = 0;

  get size(): number {
    return this.#running.size;
  }

  add(pid: number): void {
    this.#running.add(pid);
  }

  reap(): void {
    for (let ended = reapAnyChild(); ended !== undefined; ended = reapAnyChild()) {
      if (this.#running.delete(ended.pid)) this.lastExitCode = exitCodeOf(ended.status);
    }
  }

  /** A signal that came to us. SIGINT the terminal sends to those that are there as well; the others are meant for us alone.
   *  @param started  one that was not there yet when it came */
  passOn(signal: number, started?: number): void {
    for (const pid of this.#running) {
      if (signal === constants.SIGINT && pid !== started) continue;
      try {
        kill(pid, signal);
      } catch (error) {
        if (!(error instanceof SyscallError)) throw error; // it became another user's: su(1)
      }
    }
  }
}

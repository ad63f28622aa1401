/** Starts the program under the filter, as execvp(3) does. */
import { statSync } from "node:fs";
import { errno, type FileLimit, type OwnedFd, SyscallError, spawn } from "../../ffi/mod.ts";
import { FailureError } from "../errors.ts";
import type { Logger } from "../log.ts";
import { explainExecve, findProgram, needsShell } from "./find-program.ts";

const DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin";
const SHELL = "/bin/sh";

export type CommandOptions = {
  readonly argv: readonly string[];
  /** "NAME=value" strings. */
  readonly env: readonly string[];
  readonly ignoredSignals: readonly number[];
  /** Bit 0 for signal 1. */
  readonly blockedSignals: bigint;
  readonly inheritedFds: readonly number[];
  readonly closedFds: readonly number[];
  readonly fileLimit: FileLimit | undefined;
  /** The seccomp filter; undefined inside another wrap, whose filter is inherited. */
  readonly program: Uint8Array | undefined;
  readonly logger: Logger;
};

export type StartedProgram = {
  readonly pid: number;
  /** The seccomp listener; the caller's. undefined without a filter. */
  readonly listener: OwnedFd | undefined;
};

/** @throws CommandError not found, not executable; FailureError where the kernel does not let us supervise it */
export function startCommand(options: CommandOptions): StartedProgram {
  const [name = ""] = options.argv;
  const path = findProgram(name, searchPath(options.env));
  try {
    return start(options, path, options.argv);
  } catch (error) {
    if (needsShell(error)) return start(options, SHELL, ["sh", path, ...options.argv.slice(1)]);
    throw explain(error, name);
  }
}

/** Without CAP_SYS_ADMIN a filter needs no_new_privs, which disarms setuid programs in the tree. */
function start(options: CommandOptions, path: string, argv: readonly string[]): StartedProgram {
  try {
    return startWith(options, path, argv, false);
  } catch (error) {
    if (!isErrno(error, "seccomp", errno.EACCES)) throw error;
    if (isPrivileged(path)) {
      const why = "it is set-user-ID, and wrap without CAP_SYS_ADMIN takes that away (no_new_privs)";
      options.logger.warn(`Program "${path}" runs without the rights of its owner: ${why}`);
    }
    return startWith(options, path, argv, true);
  }
}

/** set-user-ID or set-group-ID */
function isPrivileged(path: string): boolean {
  return (statSync(path).mode & 0o6000) !== 0;
}

function startWith(
  options: CommandOptions,
  path: string,
  argv: readonly string[],
  noNewPrivs: boolean,
): StartedProgram {
  const { env, ignoredSignals, blockedSignals, inheritedFds, closedFds, fileLimit, program } = options;
  const limit = fileLimit === undefined ? {} : { fileLimit };
  const filter = program === undefined ? {} : { filter: { program, noNewPrivs } };
  const signals = { ignoredSignals, blockedSignals };
  return spawn({ path, argv, env, ...signals, inheritedFds, closedFds, ...limit, ...filter });
}

function isErrno(error: unknown, syscall: string, number: number): boolean {
  return error instanceof SyscallError && error.syscall === syscall && error.errno === number;
}

function explain(error: unknown, name: string): unknown {
  const explained = explainExecve(error, name);
  return explained instanceof SyscallError ? explainFilter(explained, `Cannot run "${name}"`) : explained;
}

function explainFilter(error: SyscallError, cannot: string): Error {
  if (error.errno === errno.EBUSY) {
    const why = "another supervisor (a shmlink wrap, a container runtime) answers for this process already";
    return new FailureError("unsupported", `${cannot} under wrap: ${why}; start it outside of that`, { cause: error });
  }
  return new FailureError("unsupported", `${cannot} under wrap: ${error.message}; see "shmlink doctor"`, {
    cause: error,
  });
}

function searchPath(env: readonly string[]): string {
  return env.find((entry) => entry.startsWith("PATH="))?.slice("PATH=".length) ?? DEFAULT_PATH;
}

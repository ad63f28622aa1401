/**
 * Runs a program with its TCP sockets handed off, until it and all that it started have ended. One thread, one
 * reactor: the program is started under a seccomp filter, and we answer the few calls that the filter sends us.
 */
import { chmodSync, mkdirSync } from "node:fs";
import {
  constants,
  enableSyncWakeUp,
  type FileLimit,
  isUserNotifAvailable,
  lstat,
  type OwnedFd,
  prctl,
  SignalPipe,
} from "../../ffi/mod.ts";
import { FailureError } from "../errors.ts";
import type { Logger } from "../log.ts";
import { Reactor } from "../transport/reactor.ts";
import { howMany } from "../util/how-many.ts";
import { resolve } from "../util/path.ts";
import { type StartedProgram, startCommand } from "./command.ts";
import { type FilterOptions, filterProgram } from "./filter.ts";
import { GivenSockets } from "./given-sockets.ts";
import { Journal } from "./journal.ts";
import { isSupervised } from "./nesting.ts";
import { Program } from "./program.ts";
import type { Registry } from "./registry.ts";
import type { Rule } from "./rules/types.ts";
import { forwardSignal, WATCHED_SIGNALS } from "./signals.ts";
import { Supervisor } from "./supervisor.ts";
import { sweepSockets } from "./sweep.ts";
import { type Machine, machineFor } from "./syscalls.ts";

const { EPOLLIN, PR_SET_CHILD_SUBREAPER, S_IFDIR, S_IFMT, SIGCHLD, SIGCONT } = constants;

export type WrapOptions = {
  /** The program and its arguments; a name without a slash is searched for in PATH. */
  readonly argv: readonly string[];
  /** The whole environment, as a record or as "NAME=value" strings. */
  readonly env: Readonly<Record<string, string>> | readonly string[];
  readonly registry: Registry;
  /** Makes another connection to the registry, for rules that name the service; closed by whoever gave it. */
  readonly namedRegistry?: ((name: string) => Registry) | undefined;
  /** The first that fits applies. */
  readonly rules?: readonly Rule[] | undefined;
  /** For rules that take a listener of LISTEN_FDS. */
  readonly given?: GivenSockets | undefined;
  readonly journal?: Journal | undefined;
  /** For the Unix sockets; made with mode 0700 if it is not there. Short: a socket's path has 107 bytes at most. */
  readonly directory: string;
  /** Whether plain TCP clients still reach the program's ports. */
  readonly exposeTcp: boolean;
  readonly logger: Logger;
  /** Whether programs may use io_uring; they find it missing otherwise. */
  readonly ioUring?: FilterOptions["ioUring"] | undefined;
  /** RLIMIT_NOFILE for the program, where the runtime has changed its own. */
  readonly fileLimit?: FileLimit | undefined;
  /** Signals that the program is to find ignored, as under nohup(1). */
  readonly ignoredSignals?: readonly number[] | undefined;
  /** Signals that the program is to find blocked: bit 0 for signal 1. */
  readonly blockedSignals?: bigint | undefined;
  /** Descriptors from 3 on that the program is to inherit; runtimes mark them close-on-exec. */
  readonly inheritedFds?: readonly number[] | undefined;
  /** Those of 0, 1 and 2 that the program is to find closed; runtimes open them at their start. */
  readonly closedFds?: readonly number[] | undefined;
};

/**
 * Blocks until the tree has ended; the runtime's own event loop stands still meanwhile.
 * @returns the code to end with: the program's, or 128 + n when signal n killed it
 * @throws CommandError when it cannot be started, FailureError when this kernel or user cannot supervise it
 */
export function runWrapped(options: WrapOptions): number {
  if (!isUserNotifAvailable()) {
    throw new FailureError("unsupported", "Cannot wrap: this kernel has no seccomp user notification (Linux 5.9)");
  }
  const machine = machineFor(process.arch);
  makeDirectory(options.directory);
  sweep(options);
  using signals = new SignalPipe(WATCHED_SIGNALS);
  if (isSupervised()) return runInside(options, signals);
  prctl(PR_SET_CHILD_SUBREAPER, 1); // daemons of the tree stay ours: to be reaped, and to be looked into under Yama
  try {
    const { pid, listener } = start(options, filterProgram(machine, { ioUring: options.ioUring ?? "refuse" }));
    if (listener === undefined) throw new Error("A program was started with a filter, and there is no listener");
    enableSyncWakeUp(listener);
    using notify = listener;
    return supervise(options, machine, pid, notify, signals);
  } finally {
    prctl(PR_SET_CHILD_SUBREAPER, 0);
    sweep(options);
  }
}

function makeDirectory(path: string): void {
  if (lstat(path) === undefined) mkdirSync(path, { recursive: true, mode: 0o700 });
  const status = lstat(path);
  const isFolder = status !== undefined && (status.mode & S_IFMT) === S_IFDIR;
  if (!isFolder || status.uid !== process.getuid?.()) {
    throw new FailureError("invalid", `Cannot keep sockets in "${path}": it is not a directory of ours; remove it`);
  }
  if ((status.mode & 0o077) !== 0) chmodSync(path, 0o700);
}

function sweep({ directory, logger }: WrapOptions): void {
  const count = sweepSockets(resolve(directory));
  if (count > 0) logger.info(`Removed ${howMany(count, "socket")} of supervisors that were killed`);
}

function start(options: WrapOptions, program: Uint8Array | undefined): StartedProgram {
  const { argv, env, ignoredSignals = [], blockedSignals = 0n, fileLimit, logger } = options;
  const { inheritedFds = [], closedFds = [] } = options;
  const strings = Array.isArray(env) ? env : Object.entries(env).map(([name, value]) => `${name}=${value}`);
  const signals = { ignoredSignals, blockedSignals };
  return startCommand({ argv, env: strings, ...signals, inheritedFds, closedFds, fileLimit, program, logger });
}

/** The kernel allows one supervisor for a tree: inside another wrap the program is simply run, and served by that. */
function runInside(options: WrapOptions, signals: SignalPipe): number {
  if ((options.rules ?? []).length > 0) {
    options.logger.warn("Rules are not applied inside another wrap: those of the outer one are");
  }
  using reactor = new Reactor();
  const program = new Program(start(options, undefined).pid);
  watchSignals(reactor, signals, program, () => {
    if (program.pid === undefined) reactor.stop();
  });
  reactor.run();
  return program.waitForEnd();
}

function watchSignals(reactor: Reactor, signals: SignalPipe, program: Program, onChild: () => void): void {
  reactor.add(signals.fd, EPOLLIN, () => {
    for (const sent of signals.takeSent()) {
      if (sent.signal === SIGCHLD) program.noticeChildren();
      else if (sent.signal === SIGCONT) program.resume();
      else forwardSignal(sent, program.pid);
    }
    onChild();
  });
}

function supervise(options: WrapOptions, machine: Machine, pid: number, notify: OwnedFd, signals: SignalPipe): number {
  const { registry, logger, exposeTcp, rules = [], given = new GivenSockets(0, undefined) } = options;
  const journal = options.journal ?? new Journal();
  const directory = resolve(options.directory); // others connect from other working directories
  using reactor = new Reactor();
  const onTreeEnd = (): void => reactor.stop();
  const named = new Map<string, Registry>();
  const namedRegistry = (name: string): Registry => {
    const known = named.get(name);
    if (known !== undefined) return known;
    const made = options.namedRegistry?.(name) ?? registry;
    named.set(name, made);
    if (made !== registry) made.attach?.(reactor);
    return made;
  };
  const inherited = [0, 1, 2, ...(options.inheritedFds ?? [])];
  const parts = { notify, machine, registry, namedRegistry, reactor, logger, directory, rules, given, journal };
  using _supervisor = new Supervisor({
    ...parts,
    exposeTcp,
    inherited,
    hasRings: options.ioUring === "allow",
    onTreeEnd,
  });
  const program = new Program(pid);
  watchSignals(reactor, signals, program, () => undefined); // the end of the tree comes by the listener
  registry.attach?.(reactor);
  reactor.run();
  return program.waitForEnd();
}

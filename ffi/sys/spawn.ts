/**
 * Starting a program. A JavaScript runtime must not fork; the child here is vfork's: it borrows our memory, works
 * through a table of raw system calls in machine code (machine/x64.s, spawn_table) and ends in execve, while we stand
 * still. It therefore sees every error exactly, touches nothing of the runtime, and can install a seccomp filter on
 * itself: with CLONE_FILES the filter's listener appears in our own table (execve then gives the child a copy).
 */
import { calls } from "../calls.ts";
import { ARCH, installCode, MACHINE, machineCode } from "../code-page.ts";
import {
  CLONE_FILES,
  CLONE_VFORK,
  CLONE_VM,
  F_GETFD,
  F_SETFD,
  FD_CLOEXEC,
  NSIG,
  PR_SET_NO_NEW_PRIVS,
  RLIMIT_NOFILE,
  SECCOMP_FILTER_FLAG_NEW_LISTENER,
  SECCOMP_FILTER_FLAG_SPEC_ALLOW,
  SECCOMP_SET_MODE_FILTER,
  SIG_BLOCK,
  SIG_SETMASK,
  SIGCHLD,
  SIGKILL,
  SIGSTOP,
} from "../constants.ts";
import { check, SyscallError } from "../errno.ts";
import { OwnedFd } from "../fd.ts";
import { backend } from "../load.ts";
import { allocateEach, allocateForever, type NativeMemory } from "../memory.ts";
import { KERNEL_SIGACTION, RLIMIT } from "../structs/process.ts";
import { SOCK_FPROG } from "../structs/seccomp.ts";
import { SYMBOLS, type SymbolName } from "../symbols.ts";
import type { FileLimit } from "./process.ts";

const RECORD_BYTES = 64;
const RESULT_OFFSET = 56;
const MAX_RECORDS = 192;
const SIG_IGN = 1; // asm-generic/signal-defs.h

const table: NativeMemory = allocateForever(RECORD_BYTES * MAX_RECORDS);
/** restoreDefault stays zero. */
const [ignore, restoreDefault] = allocateEach(KERNEL_SIGACTION.size, KERNEL_SIGACTION.size);
const [limitMemory, givenMask, fullMask, savedMask] = allocateEach(RLIMIT.size, 8, 8, 8);

/** One record of the table. */
export type Step = { readonly call: SymbolName; readonly args: readonly number[] };

export type SpawnOptions = {
  /** The executable file; PATH is not searched. */
  readonly path: string;
  readonly argv: readonly string[];
  /** "NAME=value" strings. */
  readonly env: readonly string[];
  /** Signals the program is to find ignored; every other one gets its default action. */
  readonly ignoredSignals?: readonly number[];
  /** The signals the program is to find blocked, bit 0 for signal 1; none, whatever we block ourselves. */
  readonly blockedSignals?: bigint;
  readonly fileLimit?: FileLimit;
  /** Leads a session of its own, without a controlling terminal (setsid(2)). */
  readonly newSession?: boolean;
  /** Descriptors to install in the program, at these numbers; lent. Everything else of ours is close-on-exec. */
  readonly fds?: readonly { readonly from: number; readonly to: number }[];
  /** Descriptors that this process inherited for the program, besides 0, 1 and 2. Runtimes mark them close-on-exec at
   *  their start: Bun those from 3 on, Node also the first three; the mark is lifted while the program starts. */
  readonly inheritedFds?: readonly number[];
  /** Those of 0, 1 and 2 that the program is to find closed, though we have something there. */
  readonly closedFds?: readonly number[];
  /** Classic BPF for seccomp(2), with a listener; `noNewPrivs` is needed without CAP_SYS_ADMIN. */
  readonly filter?: { readonly program: Uint8Array; readonly noNewPrivs: boolean };
};

export type Spawned = {
  readonly pid: number;
  /** The seccomp listener, when a filter was given. */
  readonly listener: OwnedFd | undefined;
};

let entry: ((...args: number[]) => number) | undefined;

function spawnTable(): (...args: number[]) => number {
  if (entry === undefined) {
    const address = installCode(machineCode(-1)) + MACHINE.offsets.spawnTable;
    entry = backend.pointer(address, { args: ["address", "i64", "i64"], result: "i32" });
  }
  return entry;
}

/** Sets the flags of those of `fds` that have others, until the returned function runs. What is not open is left alone. */
function lend(fds: readonly number[], flags: number): () => void {
  const before = fds.map((number) => ({ number, was: calls.fcntl(number, F_GETFD, 0) }));
  const others = before.filter(({ was }) => was >= 0 && was !== flags);
  for (const { number } of others) calls.fcntl(number, F_SETFD, flags);
  return () => {
    for (const { number, was } of others) calls.fcntl(number, F_SETFD, was);
  };
}

/** The first records: every signal ignored or at its default. Copied and changed, since it is part of every start.
 *  @returns how many */
function writeSignalSteps(ignored: readonly number[]): number {
  KERNEL_SIGACTION.write(ignore.data, { handler: SIG_IGN });
  const [toIgnore, toDefault] = [BigInt(ignore.address), BigInt(restoreDefault.address)];
  writeTable([{ call: "rtSigaction", args: [1, restoreDefault.address, 0, 8] }], 0);
  const { bytes, data } = table;
  let count = 0;
  for (let signal = 1; signal <= NSIG; signal++) {
    if (signal === SIGKILL || signal === SIGSTOP) continue;
    const at = count * RECORD_BYTES;
    if (count > 0) bytes.copyWithin(at, at - RECORD_BYTES, at);
    data.setUint32(at + 8, signal, true);
    data.setBigUint64(at + 16, ignored.includes(signal) ? toIgnore : toDefault, true);
    count += 1;
  }
  return count;
}

/** dup3() clears close-on-exec; a descriptor already at its number needs F_SETFD, since dup3(n, n) is EINVAL. */
function fdSteps(fds: NonNullable<SpawnOptions["fds"]>): Step[] {
  return fds.map(({ from, to }) =>
    from === to ? { call: "fcntl", args: [from, 2, 0] } : { call: "dup3", args: [from, to, 0] },
  );
}

function filterSteps(filter: NonNullable<SpawnOptions["filter"]>, program: NativeMemory): Step[] {
  const code = allocateForever(filter.program.length);
  code.bytes.set(filter.program);
  SOCK_FPROG.write(program.data, { len: filter.program.length / 8, filter: code.address });
  // A filter would turn mitigations on for the program, on machines where those are for sandboxes, and slow it down.
  const flags = SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_SPEC_ALLOW;
  const install: Step = { call: "seccomp", args: [SECCOMP_SET_MODE_FILTER, flags, program.address] };
  return filter.noNewPrivs ? [{ call: "prctl", args: [PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0] }, install] : [install];
}

/** The strings one after another behind their pointers, as execve(2) wants them. A NUL within one would end it there:
 *  what follows is left out. */
function stringVector(strings: readonly string[]): number {
  const head = (strings.length + 1) * 8;
  let all = "";
  for (const text of strings) all += text.includes("\0") ? `${text.slice(0, text.indexOf("\0"))}\0` : `${text}\0`;
  const encoded = new TextEncoder().encode(all);
  const memory = allocateForever(head + encoded.length);
  const { address, bytes, data } = memory;
  bytes.set(encoded, head);
  let at = head;
  for (let index = 0; index < strings.length; index++) {
    data.setBigUint64(index * 8, BigInt(address + at), true);
    at = bytes.indexOf(0, at) + 1;
  }
  return address;
}

/** @param first  the record of the first step */
function writeTable(steps: readonly Step[], first: number): void {
  const { bytes, data } = table;
  if (first + steps.length > MAX_RECORDS) throw new RangeError(`Cannot spawn with ${first + steps.length} steps`);
  let at = first * RECORD_BYTES;
  for (const { call, args } of steps) {
    bytes.fill(0, at, at + RECORD_BYTES);
    data.setUint32(at, SYMBOLS[call].nr[ARCH], true);
    for (let index = 0; index < args.length; index++) {
      data.setBigInt64(at + 8 + index * 8, BigInt(args[index] ?? 0), true);
    }
    at += RECORD_BYTES;
  }
}

function recordResult(index: number): number {
  return Number(table.data.getBigInt64(index * RECORD_BYTES + RESULT_OFFSET, true));
}

/** @returns the first record of a call that failed, -1 for none */
function findFailed(count: number): number {
  const { data } = table;
  for (let index = 0; index < count; index++) {
    if (data.getInt32(index * RECORD_BYTES + RESULT_OFFSET + 4, true) < 0) return index;
  }
  return -1;
}

function buildSteps(options: SpawnOptions, program: NativeMemory): Step[] {
  const path = new TextEncoder().encode(`${options.path}\0`);
  const pathMemory = allocateForever(path.length);
  pathMemory.bytes.set(path);
  const steps: Step[] = [];
  if (options.fileLimit !== undefined) {
    RLIMIT.write(limitMemory.data, { rlim_cur: options.fileLimit.soft, rlim_max: options.fileLimit.hard });
    steps.push({ call: "prlimit64", args: [0, RLIMIT_NOFILE, limitMemory.address, 0] });
  }
  if (options.newSession === true) steps.push({ call: "setsid", args: [] });
  if (options.filter !== undefined) steps.push(...filterSteps(options.filter, program));
  givenMask.data.setBigUint64(0, options.blockedSignals ?? 0n, true);
  steps.push({ call: "rtSigprocmask", args: [SIG_SETMASK, givenMask.address, 0, 8] });
  // With CLONE_FILES the table is ours until execve: descriptors are given away only in a child that has its own.
  if (options.fds !== undefined) steps.push(...fdSteps(options.fds));
  const args = [pathMemory.address, stringVector(options.argv), stringVector(options.env)];
  steps.push({ call: "execve", args });
  return steps;
}

function blockSignals(): void {
  fullMask.bytes.fill(0xff);
  check(calls.rtSigprocmask(SIG_BLOCK, fullMask.address, savedMask.address, 8), "rt_sigprocmask");
}

const WALL = 0x40000000; // __WALL of waitid(2): a child whose end is no SIGCHLD
const EXITED = 4; // WEXITED

/**
 * Runs system calls in a child that shares our memory and has a copy of our descriptors; returns when it has ended.
 * @returns the first call that failed; undefined when none did
 */
export function runInCopiedTable(
  steps: readonly Step[],
): { readonly index: number; readonly errno: number } | undefined {
  const all: Step[] = [...steps, { call: "exitGroup", args: [0] }];
  writeTable(all, 0);
  blockSignals();
  const pid = spawnTable()(table.address, all.length, CLONE_VM | CLONE_VFORK);
  check(calls.rtSigprocmask(SIG_SETMASK, savedMask.address, 0, 8), "rt_sigprocmask");
  check(pid, "clone");
  calls.waitid(1, pid, 0, EXITED | WALL, 0); // P_PID
  const index = findFailed(steps.length);
  return index < 0 ? undefined : { index, errno: -recordResult(index) };
}

/**
 * Starts a program as our child; returns once it has been executed.
 * Its memory for arguments stays ours for ever, so this is for starting one program, not thousands.
 * @throws SyscallError of the first step that failed: seccomp EBUSY under another listener, EACCES without
 *   no_new_privs; execve ENOENT, EACCES, ENOEXEC, E2BIG …
 */
export function spawn(options: SpawnOptions): Spawned {
  if (options.filter !== undefined && options.fds !== undefined) {
    throw new TypeError("Cannot spawn with both a filter and descriptors: the descriptor table is shared until execve");
  }
  const program = allocateForever(SOCK_FPROG.size);
  const steps = buildSteps(options, program);
  const first = writeSignalSteps(options.ignoredSignals ?? []);
  writeTable(steps, first);
  const shared = options.filter === undefined ? 0 : CLONE_FILES;
  blockSignals();
  const { closedFds = [], inheritedFds = [] } = options;
  const standard = [0, 1, 2].filter((number) => !closedFds.includes(number));
  const takeBack = [lend([...standard, ...inheritedFds], 0), lend(closedFds, FD_CLOEXEC)];
  const pid = spawnTable()(table.address, first + steps.length, CLONE_VM | CLONE_VFORK | shared | SIGCHLD);
  for (const restore of takeBack) restore();
  check(calls.rtSigprocmask(SIG_SETMASK, savedMask.address, 0, 8), "rt_sigprocmask");
  check(pid, "clone");
  return finish(pid, steps, first, options.path);
}

function finish(pid: number, steps: readonly Step[], first: number, path: string): Spawned {
  const seccompIndex = steps.findIndex(({ call }) => call === "seccomp");
  const listenerNumber = seccompIndex < 0 ? -1 : recordResult(first + seccompIndex);
  const failed = findFailed(first + steps.length);
  if (failed < 0) return { pid, listener: listenerNumber < 0 ? undefined : new OwnedFd(listenerNumber) };
  calls.waitid(1, pid, 0, 4, 0); // P_PID, WEXITED: the child has left with 127 already
  if (listenerNumber > 0) calls.close(listenerNumber);
  throw new SyscallError(steps[failed - first]?.call ?? "rtSigaction", -recordResult(failed), path);
}

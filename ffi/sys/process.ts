/** Other processes: pidfds, waiting, signals, limits. */
import { calls } from "../calls.ts";
import { CLD_EXITED, P_ALL, P_PID, RLIMIT_NOFILE, WEXITED, WNOHANG, WSTOPPED } from "../constants.ts";
import { check, ECHILD, ESRCH, retry } from "../errno.ts";
import { type BorrowedFd, OwnedFd } from "../fd.ts";
import { allocateEach } from "../memory.ts";
import { RLIMIT, SIGINFO_CHLD } from "../structs/process.ts";

const [INFO, LIMIT] = allocateEach(128, RLIMIT.size);

/** pidfd_open(2): readable when the process ends. @param flags  PIDFD_THREAD (Linux 6.9) for a thread that leads no group
 *  @throws SyscallError ESRCH */
export function pidfdOpen(pid: number, flags = 0): OwnedFd {
  return new OwnedFd(check(calls.pidfdOpen(pid, flags), "pidfd_open", String(pid)));
}

/** pidfd_getfd(2): duplicates descriptor `target` of that process into ours, close-on-exec.
 *  @throws SyscallError EBADF if it closed it, ESRCH if it ended (both normal in a race), EPERM without ptrace rights */
export function pidfdGetfd(pidfd: BorrowedFd, target: number): OwnedFd {
  return new OwnedFd(check(calls.pidfdGetfd(pidfd.number, target, 0), "pidfd_getfd", String(target)));
}

/** @returns false when the process is gone */
export function pidfdSendSignal(pidfd: BorrowedFd, signal: number): boolean {
  const result = calls.pidfdSendSignal(pidfd.number, signal, 0, 0);
  if (result === -ESRCH) return false;
  check(result, "pidfd_send_signal", String(signal));
  return true;
}

/** kill(2). @returns false when there is no such process */
export function kill(pid: number, signal: number): boolean {
  const result = calls.kill(pid, signal);
  if (result === -ESRCH) return false;
  check(result, "kill", String(pid));
  return true;
}

/** How a child ended. */
export type ExitStatus =
  | { readonly kind: "exited"; readonly code: number }
  | { readonly kind: "killed"; readonly signal: number };

/** Reaps our child `pid`. @returns undefined while it runs and `wait` is false @throws SyscallError ECHILD */
export function waitForChild(pid: number, wait: boolean): ExitStatus | undefined {
  INFO.bytes.fill(0);
  const result = retry(() => calls.waitid(P_PID, pid, INFO.address, wait ? WEXITED : WEXITED | WNOHANG, 0));
  check(result, "waitid", String(pid));
  return SIGINFO_CHLD.read(INFO.data).si_pid === 0 ? undefined : exitStatus();
}

/** Reaps one child that has ended, whichever it is, without waiting. @returns undefined when there is none */
export function reapAnyChild(): { readonly pid: number; readonly status: ExitStatus } | undefined {
  INFO.bytes.fill(0);
  const result = retry(() => calls.waitid(P_ALL, 0, INFO.address, WEXITED | WNOHANG, 0));
  if (result === -ECHILD) return undefined;
  check(result, "waitid");
  const { si_pid } = SIGINFO_CHLD.read(INFO.data);
  return si_pid === 0 ? undefined : { pid: si_pid, status: exitStatus() };
}

/** Whether our child was stopped since this was last asked. */
export function hasStopped(pid: number): boolean {
  INFO.bytes.fill(0);
  const result = retry(() => calls.waitid(P_PID, pid, INFO.address, WSTOPPED | WNOHANG, 0));
  return result === 0 && SIGINFO_CHLD.read(INFO.data).si_pid !== 0;
}

function exitStatus(): ExitStatus {
  const { si_code, si_status } = SIGINFO_CHLD.read(INFO.data);
  return si_code === CLD_EXITED ? { kind: "exited", code: si_status } : { kind: "killed", signal: si_status };
}

export type FileLimit = { readonly soft: bigint; readonly hard: bigint };

/** RLIMIT_NOFILE of a process; pid 0 is ourselves (prlimit(2)). */
export function getFileLimit(pid = 0): FileLimit {
  check(calls.prlimit64(pid, RLIMIT_NOFILE, 0, LIMIT.address), "prlimit64", String(pid));
  const { rlim_cur, rlim_max } = RLIMIT.read(LIMIT.data);
  return { soft: rlim_cur, hard: rlim_max };
}

export function setFileLimit(limit: FileLimit, pid = 0): void {
  RLIMIT.write(LIMIT.data, { rlim_cur: limit.soft, rlim_max: limit.hard });
  check(calls.prlimit64(pid, RLIMIT_NOFILE, LIMIT.address, 0), "prlimit64", String(pid));
}

/** prctl(2) with a plain number. */
export function prctl(option: number, arg: number): void {
  check(calls.prctl(option, arg, 0, 0, 0), "prctl", String(option));
}

/** Pins the calling thread to one CPU (sched_setaffinity(2)). @param cpu  0 <= cpu < 1024 */
export function pinToCpu(cpu: number): void {
  const mask = new Uint8Array(1024);
  mask[cpu >> 3] = 1 << (cpu & 7);
  check(calls.schedSetaffinity(0, 128, mask), "sched_setaffinity", `cpu ${cpu}`);
}

/** The listener side of seccomp_unotify(2). Sizes are those of Linux 5.14 and later; 64-bit ids stay BigInt. */
import { calls } from "../calls.ts";
import {
  SECCOMP_ADDFD_FLAG_SEND,
  SECCOMP_ADDFD_FLAG_SETFD,
  SECCOMP_GET_ACTION_AVAIL,
  SECCOMP_IOCTL_NOTIF_ADDFD,
  SECCOMP_IOCTL_NOTIF_ID_VALID,
  SECCOMP_IOCTL_NOTIF_RECV,
  SECCOMP_IOCTL_NOTIF_SEND,
  SECCOMP_IOCTL_NOTIF_SET_FLAGS,
  SECCOMP_RET_USER_NOTIF,
  SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP,
  SECCOMP_USER_NOTIF_FLAG_CONTINUE,
  SIG_BLOCK,
  SIG_SETMASK,
} from "../constants.ts";
import { check, EINPROGRESS, EINTR, ENOENT, ESRCH, retry } from "../errno.ts";
import type { BorrowedFd } from "../fd.ts";
import { allocateEach } from "../memory.ts";
import { NOTIF, type Notification, readNotification } from "../notification.ts";
import { SECCOMP_NOTIF_ADDFD, SECCOMP_NOTIF_RESP } from "../structs/seccomp.ts";

const MASK_BYTES = 8;
const [RESPONSE, ADDFD, ID, ACTION] = allocateEach(SECCOMP_NOTIF_RESP.size, SECCOMP_NOTIF_ADDFD.size, 8, 4);
const [ALL_SIGNALS, SAVED_MASK] = allocateEach(MASK_BYTES, MASK_BYTES);
ALL_SIGNALS.bytes.fill(0xff);

/** ENOENT: a signal has cancelled the call, or its thread is gone. ESRCH: just now, before it took a descriptor.
 *  EINPROGRESS: it has an answer. */
const isGone = (result: number): boolean => result === -ENOENT || result === -ESRCH || result === -EINPROGRESS;

/** Takes the next trapped call; blocks until there is one, so poll first. @returns undefined when it vanished meanwhile */
export function receiveNotification(listener: BorrowedFd): Notification | undefined {
  NOTIF.bytes.fill(0); // anything else is EINVAL
  const result = calls.ioctl(listener.number, SECCOMP_IOCTL_NOTIF_RECV, NOTIF.address);
  if (result === -ENOENT || result === -EINTR) return undefined;
  check(result, "ioctl SECCOMP_IOCTL_NOTIF_RECV");
  return readNotification();
}

export type { Notification };

const { val: VAL, error: ERROR, flags: FLAGS } = SECCOMP_NOTIF_RESP.offsets;

/** Structs by hand in this file: it is part of every trapped call. @param val  exact to 2^53 */
function respond(listener: BorrowedFd, id: bigint, val: number, error: number, flags: number): boolean {
  RESPONSE.data.setBigUint64(0, id, true);
  RESPONSE.data.setUint32(VAL, val % 2 ** 32, true);
  RESPONSE.data.setInt32(VAL + 4, Math.floor(val / 2 ** 32), true);
  RESPONSE.data.setInt32(ERROR, error, true);
  RESPONSE.data.setUint32(FLAGS, flags, true);
  const result = retry(() => calls.ioctl(listener.number, SECCOMP_IOCTL_NOTIF_SEND, RESPONSE.address));
  if (isGone(result)) return false;
  check(result, "ioctl SECCOMP_IOCTL_NOTIF_SEND");
  return true;
}

/** Answers with a result. @returns false when the call was cancelled by a signal, its thread is gone, or it has been answered */
export function respondValue(listener: BorrowedFd, id: bigint, value: number): boolean {
  return respond(listener, id, value, 0, 0);
}

/** Answers with an error. @param errno  positive @returns as respondValue */
export function respondError(listener: BorrowedFd, id: bigint, errno: number): boolean {
  return respond(listener, id, 0, -errno, 0);
}

/** Lets the kernel run the call as it stands; only for calls that are none of ours (the memory may have changed since). */
export function respondContinue(listener: BorrowedFd, id: bigint): boolean {
  return respond(listener, id, 0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE);
}

/** Whether the call still waits; ask again after every use of what its pid names. */
export function isNotificationValid(listener: BorrowedFd, id: bigint): boolean {
  ID.data.setBigUint64(0, id, true);
  return retry(() => calls.ioctl(listener.number, SECCOMP_IOCTL_NOTIF_ID_VALID, ID.address)) === 0;
}

/** Where a descriptor goes in the trapped process. */
export type AddFdTarget =
  | { readonly kind: "replace"; readonly number: number }
  | { readonly kind: "lowest" }
  /** Lowest free number, which is also the call's result: install and answer in one step. */
  | { readonly kind: "answer" };

const ADDFD_AT = SECCOMP_NOTIF_ADDFD.offsets;
const TARGET_FLAGS = { replace: SECCOMP_ADDFD_FLAG_SETFD, lowest: 0, answer: SECCOMP_ADDFD_FLAG_SEND } as const;

/**
 * Installs `source` (lent) in the process whose call is `id`.
 * @returns the number there, or undefined when the call is gone
 * @throws SyscallError EBADF or EMFILE at its RLIMIT_NOFILE
 */
export function addFd(
  listener: BorrowedFd,
  id: bigint,
  source: BorrowedFd,
  target: AddFdTarget,
  fdFlags: number,
): number | undefined {
  ADDFD.data.setBigUint64(0, id, true);
  ADDFD.data.setUint32(ADDFD_AT.flags, TARGET_FLAGS[target.kind], true);
  ADDFD.data.setUint32(ADDFD_AT.srcfd, source.number, true);
  ADDFD.data.setUint32(ADDFD_AT.newfd, target.kind === "replace" ? target.number : 0, true);
  ADDFD.data.setUint32(ADDFD_AT.newfd_flags, fdFlags, true);
  const install = (): number => retry(() => calls.ioctl(listener.number, SECCOMP_IOCTL_NOTIF_ADDFD, ADDFD.address));
  // A signal would take the descriptor back and not the answer, which is 0 then.
  const result = target.kind === "answer" ? withoutSignals(install) : install();
  if (isGone(result)) return undefined;
  return check(result, "ioctl SECCOMP_IOCTL_NOTIF_ADDFD");
}

/** Runs `call`, which must not throw, while this thread gets no signals. */
function withoutSignals(call: () => number): number {
  check(calls.rtSigprocmask(SIG_BLOCK, ALL_SIGNALS.address, SAVED_MASK.address, MASK_BYTES), "rt_sigprocmask");
  const result = call();
  check(calls.rtSigprocmask(SIG_SETMASK, SAVED_MASK.address, 0, MASK_BYTES), "rt_sigprocmask");
  return result;
}

/** Runs the trapped thread on our CPU right after an answer (Linux 6.6): a trap then costs 2 µs, not 18.
 *  The ioctl takes the flags by value, although its number says pointer. @returns false on older kernels */
export function enableSyncWakeUp(listener: BorrowedFd): boolean {
  return calls.ioctl(listener.number, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP) === 0;
}

/** Whether the kernel has SECCOMP_RET_USER_NOTIF (Linux 5.0). */
export function isUserNotifAvailable(): boolean {
  ACTION.data.setUint32(0, SECCOMP_RET_USER_NOTIF, true);
  return calls.seccomp(SECCOMP_GET_ACTION_AVAIL, 0, ACTION.address) === 0;
}

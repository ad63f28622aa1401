/** epoll(7) and poll(2). */
import { calls } from "../calls.ts";
import { EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, EPOLLIN, O_CLOEXEC } from "../constants.ts";
import { check, EINTR, retry, SyscallError } from "../errno.ts";
import { type BorrowedFd, OwnedFd } from "../fd.ts";
import { allocateEach } from "../memory.ts";
import { EPOLL_EVENT, POLLFD, TIMESPEC } from "../structs/event.ts";
import { setTimespec } from "./timespec.ts";

const MAX_EVENTS = 64;
const [EVENTS, EVENT] = allocateEach(EPOLL_EVENT.size * MAX_EVENTS, EPOLL_EVENT.size);
const DATA_OFFSET = EPOLL_EVENT.offsets.data;

export function epollCreate(): OwnedFd {
  return new OwnedFd(check(calls.epollCreate1(O_CLOEXEC), "epoll_create1"));
}

function control(epoll: BorrowedFd, operation: number, fd: BorrowedFd, events: number, token: number): void {
  EVENT.data.setUint32(0, events, true);
  EVENT.data.setUint32(DATA_OFFSET, token, true); // the other half stays zero
  const result = calls.epollCtl(epoll.number, operation, fd.number, EVENT.address);
  if (result < 0) throw new SyscallError("epoll_ctl", -result, `fd ${fd.number}`);
}

/** Registers `fd`; `token`, a number below 2^32, comes back with its events. @throws SyscallError EPERM for a regular file */
export function epollAdd(epoll: BorrowedFd, fd: BorrowedFd, events: number, token: number): void {
  control(epoll, EPOLL_CTL_ADD, fd, events, token);
}

export function epollModify(epoll: BorrowedFd, fd: BorrowedFd, events: number, token: number): void {
  control(epoll, EPOLL_CTL_MOD, fd, events, token);
}

export function epollRemove(epoll: BorrowedFd, fd: BorrowedFd): void {
  control(epoll, EPOLL_CTL_DEL, fd, 0, 0);
}

/**
 * Waits for events and hands each to `visit`; a signal ends the wait early with 0 events.
 * `visit` may itself call epollWait on another instance: the events are copied first.
 * @param timeoutMs  -1 for no limit
 * @returns how many events there were
 */
export function epollWait(
  epoll: BorrowedFd,
  timeoutMs: number,
  visit: (token: number, events: number) => void,
): number {
  const result = calls.epollPwait(epoll.number, EVENTS.address, MAX_EVENTS, timeoutMs, 0, 8);
  if (result === -EINTR) return 0;
  const count = check(result, "epoll_pwait");
  if (count === 1) {
    visit(EVENTS.data.getUint32(DATA_OFFSET, true), EVENTS.data.getUint32(0, true));
    return 1;
  }
  const ready: number[] = [];
  for (let at = 0; at < count * EPOLL_EVENT.size; at += EPOLL_EVENT.size) {
    ready.push(EVENTS.data.getUint32(at + DATA_OFFSET, true), EVENTS.data.getUint32(at, true));
  }
  for (let index = 0; index < ready.length; index += 2) visit(ready[index] ?? 0, ready[index + 1] ?? 0);
  return count;
}

/** AT_ONCE stays zero. */
const [POLL, TIMEOUT, AT_ONCE] = allocateEach(POLLFD.size * 8, TIMESPEC.size, TIMESPEC.size);

function setPollFd(index: number, fd: number, events: number): void {
  const at = index * POLLFD.size;
  POLL.data.setInt32(at, fd, true);
  POLL.data.setUint16(at + POLLFD.offsets.events, events, true);
  POLL.data.setUint16(at + POLLFD.offsets.revents, 0, true);
}

/** What of `events` a descriptor is ready for now; 0 for nothing. */
export function pollNow(fd: BorrowedFd, events: number): number {
  setPollFd(0, fd.number, events);
  let result: number;
  do result = calls.ppoll(POLL.address, 1, AT_ONCE.address, 0, 8);
  while (result === -EINTR);
  check(result, "ppoll");
  return POLL.data.getUint16(POLLFD.offsets.revents, true);
}

/** poll(2) for one descriptor; a signal does not end the wait. @returns what of `events` happened, 0 after `timeoutMs` */
export function pollOne(fd: BorrowedFd, events: number, timeoutMs: number): number {
  setPollFd(0, fd.number, events);
  setTimespec(TIMEOUT.data, 0, timeoutMs);
  let result: number;
  do result = calls.ppoll(POLL.address, 1, timeoutMs < 0 ? 0 : TIMEOUT.address, 0, 8);
  while (result === -EINTR);
  check(result, "ppoll");
  return POLL.data.getUint16(POLLFD.offsets.revents, true);
}

/** Of what pollPair() returns: the second has something. */
export const SECOND_IS_READY: number = 1 << 16;

/** Waits until one of two can be read or has ended; a signal ends the wait early. @param timeoutMs  -1 for no limit
 *  @returns the POLL* bits of the first, with SECOND_IS_READY; 0 for nothing */
export function pollPair(first: BorrowedFd, second: BorrowedFd, timeoutMs: number): number {
  setPollFd(0, first.number, EPOLLIN);
  setPollFd(1, second.number, EPOLLIN);
  setTimespec(TIMEOUT.data, 0, timeoutMs);
  const result = calls.ppoll(POLL.address, 2, timeoutMs < 0 ? 0 : TIMEOUT.address, 0, 8);
  if (result === -EINTR) return 0;
  check(result, "ppoll");
  const events = (index: number): number => POLL.data.getUint16(index * POLLFD.size + POLLFD.offsets.revents, true);
  return events(0) | (events(1) === 0 ? 0 : SECOND_IS_READY);
}

/**
 * poll(2) for up to eight descriptors. A signal does not end the wait, unless `interruptible`.
 * @param fds  with EPOLLIN and so on, which have the values of POLLIN
 * @param timeoutMs  -1 for no limit
 * @returns what happened to each, 0 for nothing
 */
export function poll(
  fds: readonly { readonly fd: BorrowedFd; readonly events: number }[],
  timeoutMs: number,
  interruptible = false,
): number[] {
  for (const [index, { fd, events }] of fds.entries()) setPollFd(index, fd.number, events);
  setTimespec(TIMEOUT.data, 0, timeoutMs);
  const call = (): number => calls.ppoll(POLL.address, fds.length, timeoutMs < 0 ? 0 : TIMEOUT.address, 0, 8);
  const result = interruptible ? call() : retry(call);
  if (result === -EINTR) return fds.map(() => 0);
  check(result, "ppoll");
  return fds.map((_, index) => POLL.data.getUint16(index * POLLFD.size + POLLFD.offsets.revents, true));
}

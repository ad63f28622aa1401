/**
 * Moves an epoll registration from one open file to another. A registration belongs to (file, number), and the number
 * need not be free in our own table: so a vfork child with a copy of our table puts the files under that number, each
 * in turn, and speaks to the epoll instance, which it shares with the program that waits in it.
 */
import { EPOLL_CTL_ADD, EPOLL_CTL_DEL } from "../constants.ts";
import { SyscallError } from "../errno.ts";
import { type BorrowedFd, duplicateFd, OwnedFd } from "../fd.ts";
import { allocateForever } from "../memory.ts";
import { EPOLL_EVENT } from "../structs/event.ts";
import { runInCopiedTable } from "./spawn.ts";

const EVENT = allocateForever(EPOLL_EVENT.size);

export type EpollMove = {
  readonly epoll: BorrowedFd;
  /** The descriptor's number in the program, by which it will modify or delete the registration. */
  readonly number: number;
  readonly from: BorrowedFd;
  readonly to: BorrowedFd;
  /** As /proc/PID/fdinfo shows them. */
  readonly events: number;
  readonly data: bigint;
};

/** A descriptor of the same file with another number than `number`. */
function awayFrom(number: number, fd: BorrowedFd): BorrowedFd {
  return fd.number === number ? duplicateFd(fd) : fd;
}

/** @returns false when the registration is not there any more @throws SyscallError EBADF beyond our RLIMIT_NOFILE */
export function moveEpollRegistration({ epoll, number, from, to, events, data }: EpollMove): boolean {
  const lent = [epoll, from, to];
  const used = lent.map((fd) => awayFrom(number, fd));
  EPOLL_EVENT.write(EVENT.data, { events, data });
  try {
    return run(
      used.map((fd) => fd.number),
      number,
    );
  } finally {
    for (const fd of used) if (fd instanceof OwnedFd && !lent.includes(fd)) fd.close();
  }
}

function run([epoll = -1, from = -1, to = -1]: readonly number[], number: number): boolean {
  const failed = runInCopiedTable([
    { call: "dup3", args: [from, number, 0] },
    { call: "epollCtl", args: [epoll, EPOLL_CTL_DEL, number, EVENT.address] },
    { call: "dup3", args: [to, number, 0] },
    { call: "epollCtl", args: [epoll, EPOLL_CTL_ADD, number, EVENT.address] },
  ]);
  if (failed === undefined) return true;
  if (failed.index === 1) return false;
  throw new SyscallError(failed.index === 3 ? "epoll_ctl" : "dup3", failed.errno, String(number));
}

/**
 * Puts another socket in the place of one that the program holds: under every number that means it in that process,
 * with each number's close-on-exec flag, and in every epoll set. The new one goes in before the registrations are
 * moved, and an event that comes in between is there when they are.
 */
import {
  addFd,
  type BorrowedFd,
  constants,
  copyFileStatus,
  isSameFile,
  moveEpollRegistration,
  type OwnedFd,
  SyscallError,
} from "../../ffi/mod.ts";
import type { Call, Context } from "./context.ts";
import { descriptorsOf, type EpollEntry, type Holdings } from "./holdings.ts";
import type { Left } from "./letting-go.ts";
import { CallGone, type Tracee } from "./tracee.ts";

const { O_CLOEXEC } = constants;

/** @param old  what args[0] means now; both are lent @returns false when nobody waits for the call any more: nothing
 *  has changed then @throws SyscallError EBADF beyond the program's RLIMIT_NOFILE */
export function swapSocket(context: Context, call: Call, old: BorrowedFd, fresh: BorrowedFd): boolean {
  const number = call.args[0] | 0;
  const { numbers, registrations } = context.holdings.findAll(call.tracee.thread, number, old);
  copyFileStatus(old, fresh);
  if (!install(context, call, old, fresh, number)) return false;
  const others = numbers.filter((other) => other !== number);
  afterwards(context, call, () => replaceOthers(context, call, { numbers: others, registrations }, old, fresh));
  return true;
}

/** swapSocket() for a socket that we keep no descriptor of: costs less, and the same however many descriptors there are.
 *  @param old  taken, unless it returns false @param beforeClose  when the new one is in place: the last look at `old` */
export function swapAndClose(
  context: Context,
  call: Call,
  old: OwnedFd,
  fresh: BorrowedFd,
  beforeClose: () => void = () => undefined,
): boolean {
  const { holdings, lettingGo } = context;
  if (!holdings.canCompare) {
    if (!swapSocket(context, call, old, fresh)) return false;
    beforeClose();
    old.close();
    return true;
  }
  const { thread } = call.tracee;
  const number = call.args[0] | 0;
  const registrations = holdings.findRegistrations(thread, number, old);
  copyFileStatus(old, fresh);
  if (!install(context, call, old, fresh, number)) return false;
  beforeClose();
  afterwards(context, call, () => {
    replaceOthers(context, call, { numbers: [], registrations }, old, fresh);
    const left = lettingGo.close(old);
    if (left !== undefined) goAfter(context, call, left, fresh);
  });
  return true;
}

/** What comes once the socket is in place, which nothing takes back: an obstacle leaves something else as it was. */
function afterwards({ logger }: Context, { tracee }: Call, action: () => void): void {
  try {
    action();
  } catch (error) {
    if (error instanceof CallGone) return; // it is called again, and finds the swap done
    if (!(error instanceof SyscallError)) throw error;
    logger.warn(`Cannot look for other descriptors of a socket in thread ${tracee.thread}: ${error.message}`);
  }
}

/** Goes after the numbers under which others hold a socket that has been exchanged under one.
 *  @param number  which it had here, in the epoll set of LettingGo @param fresh  lent */
export function replaceLeft(context: Context, call: Call, number: number, fresh: BorrowedFd): void {
  afterwards(context, call, () => goAfter(context, call, context.lettingGo.left(number), fresh));
}

function goAfter(context: Context, call: Call, left: Left, fresh: BorrowedFd): void {
  const { holdings, lettingGo } = context;
  const { thread } = call.tracee;
  const other = descriptorsOf(thread).find((each) => left.isThat(thread, each));
  lettingGo.reset();
  using kept = other === undefined ? undefined : call.tracee.descriptor(other);
  // Held by another process alone, as by the parent of who connects, it is that one's to keep.
  if (other !== undefined && kept !== undefined) {
    replaceOthers(context, call, holdings.findAll(thread, other, kept), kept, fresh);
  }
}

function replaceOthers(context: Context, call: Call, holdings: Holdings, old: BorrowedFd, fresh: BorrowedFd): void {
  for (const number of holdings.numbers) replaceOther(context, call, old, fresh, number);
  for (const registration of holdings.registrations) move(context, call.tracee, registration, old, fresh);
}

/** A duplicate that cannot be reached, as beyond RLIMIT_NOFILE, keeps what it has. */
function replaceOther(context: Context, call: Call, old: BorrowedFd, fresh: BorrowedFd, number: number): void {
  try {
    install(context, call, old, fresh, number);
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    const { thread } = call.tracee;
    context.logger.warn(`Cannot replace descriptor ${number} of thread ${thread}: ${error.message}`);
  }
}

/** A number that another thread has closed, or given to another file, while the call waited, is left alone: the call
 *  goes on with what it was called for. @returns false when nobody waits for the call any more */
function install(context: Context, { id, tracee }: Call, old: BorrowedFd, fresh: BorrowedFd, number: number): boolean {
  if (context.holdings.canCompare && !isSameFile(old, tracee.thread, number)) return tracee.isWaiting;
  const flags = tracee.descriptorFlags(number);
  if (flags === undefined) return tracee.isWaiting;
  return addFd(context.notify, id, fresh, { kind: "replace", number }, flags & O_CLOEXEC) !== undefined;
}

function move({ logger }: Context, tracee: Tracee, entry: EpollEntry, from: BorrowedFd, to: BorrowedFd): void {
  let epoll: OwnedFd | undefined;
  try {
    epoll = tracee.descriptor(entry.epoll);
    if (epoll !== undefined) moveEpollRegistration({ ...entry, epoll, from, to });
  } catch (error) {
    if (error instanceof CallGone) return; // as in afterwards()
    if (!(error instanceof SyscallError)) throw error;
    logger.warn(`Cannot keep an epoll registration of thread ${tracee.thread}: ${error.message}`);
  } finally {
    epoll?.close();
  }
}

/**
 * Puts another socket in the place of one that the program holds: under every number that means it in that process,
 * with each number's close-on-exec flag, and in every epoll set. The new one goes in before the registrations are
 * moved, and an event that comes in between is there when they are.
 */
import {
  addFd,
  type BorrowedFd,
  constants,
  copySignalOwner,
  moveEpollRegistration,
  type OwnedFd,
  SyscallError,
} from "../../ffi/mod.ts";
import type { Call, Context } from "./context.ts";
import type { EpollEntry } from "./holdings.ts";
import { CallGone, type Tracee } from "./tracee.ts";

const { O_CLOEXEC } = constants;

/** @param old  what args[0] means now; both are lent @returns false when nobody waits for the call any more: nothing
 *  has changed then @throws SyscallError EBADF beyond the program's RLIMIT_NOFILE */
export function swapSocket(context: Context, call: Call, old: BorrowedFd, fresh: BorrowedFd): boolean {
  const { tracee, args } = call;
  const number = args[0] | 0;
  const { numbers, registrations } = context.holdings.find(tracee.thread, number, old);
  copySignalOwner(old, fresh);
  if (!install(context, call, fresh, number)) return false;
  for (const other of numbers) if (other !== number) install(context, call, fresh, other);
  for (const registration of registrations) move(context, tracee, registration, old, fresh);
  return true;
}

function install({ notify }: Context, { id, tracee }: Call, fresh: BorrowedFd, number: number): boolean {
  const flags = tracee.descriptorFlags(number) & O_CLOEXEC;
  return addFd(notify, id, fresh, { kind: "replace", number }, flags) !== undefined;
}

function move({ logger }: Context, tracee: Tracee, entry: EpollEntry, from: BorrowedFd, to: BorrowedFd): void {
  let epoll: OwnedFd | undefined;
  try {
    epoll = tracee.descriptor(entry.epoll);
    if (epoll !== undefined) moveEpollRegistration({ ...entry, epoll, from, to });
  } catch (error) {
    if (error instanceof CallGone) return; // it is called again, and finds the swap done
    if (!(error instanceof SyscallError)) throw error;
    logger.warn(`Cannot keep an epoll registration of thread ${tracee.thread}: ${error.message}`);
  } finally {
    epoll?.close();
  }
}

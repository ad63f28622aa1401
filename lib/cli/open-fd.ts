/** Descriptors that the command line names by number. */
import { type BorrowedFd, borrowFd, duplicateFd, SyscallError } from "../../ffi/mod.ts";
import { UsageError } from "./usage-error.ts";

/** @throws UsageError unless it is open */
export function openFd(option: string, number: number): BorrowedFd {
  const fd = borrowFd(number);
  try {
    duplicateFd(fd).close();
  } catch (error) {
    if (error instanceof SyscallError) throw new UsageError(`Cannot use --${option} "${number}": it is not open here`);
    throw error;
  }
  return fd;
}

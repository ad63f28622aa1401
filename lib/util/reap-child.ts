/** A child whose end says nothing. */
import { errno, SyscallError, waitForChild } from "../../ffi/mod.ts";

/** So that it does not stay behind as a zombie. Who was started with SIGCHLD ignored has none: the kernel has taken it away. */
export function reapChild(pid: number, wait: boolean): void {
  try {
    waitForChild(pid, wait);
  } catch (error) {
    if (!(error instanceof SyscallError && error.errno === errno.ECHILD)) throw error;
  }
}

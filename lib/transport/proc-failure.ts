/** What it means that a file of /proc cannot be read: that its process has gone or is hidden, or that we have no descriptor left
 *  to open it with, of which nothing follows. */
import { errno, SyscallError } from "../../ffi/mod.ts";

/** To be called where everything else means that there is nothing to read. @throws SyscallError EMFILE, ENFILE */
export function throwIfExhausted(error: unknown, path: string): void {
  const { code } = error as NodeJS.ErrnoException;
  if (code === "EMFILE" || code === "ENFILE") throw new SyscallError("open", errno[code], path);
}

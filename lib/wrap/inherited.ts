/** Sockets that the program inherits: whether options were set on them, nobody of ours has seen. */
import { borrowFd, SyscallError } from "../../ffi/mod.ts";
import { cookieOf, mayConnect } from "./socket.ts";
import type { TouchedSockets } from "./touched.ts";

/** @param numbers  descriptors, which are ours as well */
export function noteInherited(touched: TouchedSockets, numbers: readonly number[]): void {
  for (const number of numbers) {
    const fd = borrowFd(number);
    try {
      if (mayConnect(fd)) touched.add(cookieOf(fd), "tcp");
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error; // no socket, or closed
    }
  }
}

/**
 * How a wrap inside a wrap finds out, without a trace in the program's environment: it asks for an option that no
 * kernel knows of a descriptor that nobody has, and only a supervisor of ours says yes.
 */
import { borrowFd, constants, getsockopt, SyscallError } from "../../ffi/mod.ts";
import type { Call } from "./context.ts";

const NOBODY = 0x7fffffff;
const QUESTION = 0x73686d6c; // "shml"

/** Whether this process is in the tree of another wrap. */
export function isSupervised(): boolean {
  try {
    getsockopt(borrowFd(NOBODY), constants.IPPROTO_TCP, QUESTION, 4);
    return true;
  } catch (error) {
    if (error instanceof SyscallError) return false; // EBADF
    throw error;
  }
}

export function isThatQuestion({ args }: Call): boolean {
  return args[0] === NOBODY && args[1] === constants.IPPROTO_TCP && args[2] === QUESTION;
}

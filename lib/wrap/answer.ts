/** What a handler makes of a trapped call, and the argument conventions of the socket calls. */
import { errno } from "../../ffi/mod.ts";
import type { Tracee } from "./tracee.ts";

export type Answer =
  /** The kernel runs the call as it stands: it is none of ours. */
  | { readonly kind: "continue" }
  | { readonly kind: "value"; readonly value: number }
  | { readonly kind: "error"; readonly errno: number }
  /** To be answered later. */
  | { readonly kind: "later" }
  /** Has been answered, or nobody waits any more. */
  | { readonly kind: "done" };

export const CONTINUE: Answer = { kind: "continue" };
export const LATER: Answer = { kind: "later" };
export const DONE: Answer = { kind: "done" };

export function value(result: number): Answer {
  return { kind: "value", value: result };
}

export function failure(number: number): Answer {
  return { kind: "error", errno: number };
}

/** Reads the socklen_t of a result: what is written later is written only if the call still waits. @returns an errno as a negative number when it cannot be used */
export function readLength(tracee: Tracee, address: number): number {
  const bytes = address === 0 ? undefined : tracee.peek(address, 4);
  if (bytes === undefined) return -errno.EFAULT;
  const length = new DataView(bytes.buffer).getInt32(0, true);
  return length < 0 ? -errno.EINVAL : length;
}

/** Writes a result as the kernel does: as much as there is room for, then its whole length.
 *  @returns 0, or EFAULT @throws CallGone */
export function writeResult(
  tracee: Tracee,
  target: { readonly address: number; readonly lengthAddress: number; readonly room: number },
  bytes: Uint8Array,
): number {
  const part = bytes.subarray(0, Math.min(target.room, bytes.length));
  const length = { address: target.lengthAddress, bytes: new Uint8Array(Uint32Array.of(bytes.length).buffer) };
  return tracee.write({ address: target.address, bytes: part }, length) ? 0 : errno.EFAULT;
}

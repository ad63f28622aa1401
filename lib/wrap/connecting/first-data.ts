/** What sendto(2) with MSG_FASTOPEN sends once it is connected. */
import { type BorrowedFd, constants, send } from "../../../ffi/mod.ts";
import { FALLBACK } from "../../util/fallback-reason.ts";
import type { Call } from "../context.ts";
import { Fallback } from "./fallback.ts";

/** Where it is in the program's memory. */
export type FirstData = { readonly address: number; readonly length: number };

/** Less than the smallest of send buffers takes. */
const MAX_FIRST_BYTES = 65_536;

/** @throws Fallback for what is too long or cannot be read */
export function readFirst({ tracee }: Call, { address, length }: FirstData): Uint8Array {
  const bytes = length > MAX_FIRST_BYTES ? undefined : tracee.peek(address, length);
  if (bytes === undefined) throw new Fallback(FALLBACK.fastOpen);
  return bytes;
}

/** It fits in the empty buffer of a new connection. @returns what the call is to return */
export function sendFirst(unix: BorrowedFd, bytes: Uint8Array | undefined): number {
  if (bytes === undefined || bytes.length === 0) return 0;
  return send(unix, bytes, constants.MSG_DONTWAIT | constants.MSG_NOSIGNAL) ?? 0;
}

/** The words of the Wayland wire: arguments, signatures, raw messages. No bytes here, and no meaning of a message. */
import type { ObjectId } from "../util/brand.ts";

/** Bytes of object id, opcode and size before the arguments. */
export const HEADER_BYTES = 8;
/** Longest message we send or take: libwayland before 1.23 has buffers of this size (WL_BUFFER_DEFAULT_SIZE). */
export const MAX_MESSAGE_BYTES = 4096;
/** Most descriptors in one message: libwayland's MAX_FDS_OUT, which it sends in one sendmsg(2). */
export const MAX_MESSAGE_FDS = 28;
/**
 * Most descriptors that may wait for messages which have not arrived whole. libwayland may send those of a message
 * ahead with the bytes before it, so there can be two sets; a peer that piles up more only fills our table.
 */
export const MAX_WAITING_FDS: number = 2 * MAX_MESSAGE_FDS;

/** `untyped_new_id` is a new_id without an interface in the XML: on the wire interface, version and id. */
export type ArgKind = "int" | "uint" | "fixed" | "string" | "object" | "new_id" | "untyped_new_id" | "array" | "fd";

/** What is known of an argument before its bytes are seen. `nullable` is for strings and objects. */
export type ArgSpec = { readonly kind: ArgKind; readonly nullable?: boolean };
export type Signature = readonly ArgSpec[];

/** An argument with its value. `fixed` is 24.8 on the wire, a plain number here. The fd type is the user's own. */
export type Arg<Fd> =
  | { readonly kind: "int"; readonly value: number }
  | { readonly kind: "uint"; readonly value: number }
  | { readonly kind: "fixed"; readonly value: number }
  | { readonly kind: "string"; readonly value: string | null }
  | { readonly kind: "object"; readonly value: ObjectId | null }
  | { readonly kind: "new_id"; readonly value: ObjectId }
  | { readonly kind: "untyped_new_id"; readonly interface: string; readonly version: number; readonly value: ObjectId }
  | { readonly kind: "array"; readonly value: Uint8Array }
  | { readonly kind: "fd"; readonly value: Fd };

/** One message; `object` is whom a request is sent to, or whom an event comes from. */
export type RawMessage<Fd> = {
  readonly kind: "message";
  readonly object: ObjectId;
  readonly opcode: number;
  readonly args: readonly Arg<Fd>[];
};

/** What can be wrong with bytes from a peer. */
export type FaultReason =
  | "size-too-small"
  | "size-unaligned"
  | "size-too-large"
  | "unknown-object"
  | "unknown-opcode"
  | "truncated-argument"
  | "unterminated-string"
  | "nul-in-string"
  | "bad-utf8"
  | "null-not-allowed"
  | "missing-fd"
  | "too-many-fds"
  | "trailing-bytes";

/** A fault is a value: decoding what a peer sent never throws. `object` and `opcode` are as the peer wrote them. */
export type WireFault = {
  readonly kind: "fault";
  readonly reason: FaultReason;
  readonly object: number;
  readonly opcode: number;
  /** A clause for people, in lower case: "string of 12 bytes has no NUL at its end". */
  readonly detail: string;
};

/** `bytes` rounded up to the 32-bit words that the wire is made of. */
export function paddedBytes(bytes: number): number {
  return (bytes + 3) & ~3;
}

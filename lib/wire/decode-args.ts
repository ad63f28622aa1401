/** The arguments of one whole message. Pure and total; it takes no descriptor itself but says how many it used. */
import type { ObjectId } from "../util/brand.ts";
import { type Arg, type ArgSpec, type FaultReason, paddedBytes, type Signature } from "./types.ts";

export type DecodedArgs<Fd> =
  | { readonly kind: "args"; readonly args: Arg<Fd>[]; readonly fdCount: number }
  | { readonly kind: "fault"; readonly reason: FaultReason; readonly detail: string };

type Fault = { readonly kind: "fault"; readonly reason: FaultReason; readonly detail: string };

// A byte order mark is a character like any other here: without ignoreBOM it would vanish.
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * @param cursor  at the message without its header, a whole number of words
 * @param fds  waiting descriptors, of which the first unused one is fds[fdStart]
 */
export function decodeArgs<Fd>(
  cursor: Cursor,
  signature: Signature,
  fds: readonly Fd[],
  fdStart: number,
): DecodedArgs<Fd> {
  const args: Arg<Fd>[] = new Array(signature.length); // as long as it will be: each is put in, or it is a fault
  let at = 0;
  let fdIndex = fdStart;
  for (const spec of signature) {
    if (spec.kind === "fd") {
      if (fdIndex >= fds.length) return fault("missing-fd", "it came without the descriptor it should carry");
      args[at++] = { kind: "fd", value: fds[fdIndex] as Fd }; // in bounds, and Fd may itself include undefined
      fdIndex += 1;
      continue;
    }
    const arg = readArg(cursor, spec);
    if (arg.kind === "fault") return arg;
    args[at++] = arg;
  }
  const left = cursor.left;
  if (left > 0) return fault("trailing-bytes", `${left} bytes follow its last argument`);
  return { kind: "args", args, fdCount: fdIndex - fdStart };
}

/** Reads words and counted bytes of one message after the other; what is not there is undefined. */
export class Cursor {
  #bytes = new Uint8Array(0);
  #view = new DataView(this.#bytes.buffer);
  #at = 0;
  #end = 0;

  /** @param view  of the same buffer as `bytes`, from its beginning  @param start  where the message is in it */
  reset(bytes: Uint8Array<ArrayBuffer>, view: DataView<ArrayBuffer>, start: number, end: number): void {
    this.#bytes = bytes;
    this.#view = view;
    this.#at = start;
    this.#end = end;
  }

  get left(): number {
    return this.#end - this.#at;
  }

  uint(): number | undefined {
    if (this.left < 4) return undefined;
    this.#at += 4;
    return this.#view.getUint32(this.#at - 4, true);
  }

  /** `length` bytes and their padding, which may hold anything. */
  bytes(length: number): Uint8Array | undefined {
    // Before paddedBytes, which is 32-bit arithmetic and would wrap.
    if (length > this.left || paddedBytes(length) > this.left) return undefined;
    this.#at += paddedBytes(length);
    return this.#bytes.subarray(this.#at - paddedBytes(length), this.#at - paddedBytes(length) + length);
  }

  /** The text that comes next, if it is one of those that came last. @param length  with the NUL at its end */
  knownText(length: number): string | undefined {
    const end = length - 1;
    if (end > KNOWN_BYTES || length > this.left || paddedBytes(length) > this.left) return undefined;
    const bytes = this.#bytes;
    const at = this.#at;
    const text = known[placeOf(end === 0 ? 0 : (bytes[at + end - 1] as number), end)];
    if (text === undefined || text.bytes.length !== end || bytes[at + end] !== 0) return undefined;
    for (let index = 0; index < end; index++) if (text.bytes[index] !== bytes[at + index]) return undefined;
    this.#at += paddedBytes(length);
    return text.value;
  }
}

function readArg(cursor: Cursor, spec: ArgSpec): Exclude<Arg<never>, { kind: "fd" }> | Fault {
  switch (spec.kind) {
    case "string":
      return readString(cursor, spec.nullable === true);
    case "array":
      return readArray(cursor);
    case "untyped_new_id":
      return readUntypedNewId(cursor);
    case "fd":
      throw new TypeError("Cannot read a descriptor from bytes");
    default:
      return readWord(cursor, spec.kind, spec.nullable === true);
  }
}

type WordKind = "int" | "uint" | "fixed" | "object" | "new_id";

function readWord(cursor: Cursor, kind: WordKind, nullable: boolean): Extract<Arg<never>, { kind: WordKind }> | Fault {
  const word = cursor.uint();
  if (word === undefined) return truncated(kind);
  switch (kind) {
    case "int":
      return { kind, value: word | 0 };
    case "uint":
      return { kind, value: word };
    case "fixed":
      return { kind, value: (word | 0) / 256 };
    case "object":
      if (word === 0) return nullable ? { kind, value: null } : nullNotAllowed(kind);
      return { kind, value: word as ObjectId }; // whether it exists, the object map says
    case "new_id":
      return word === 0 ? nullNotAllowed(kind) : { kind, value: word as ObjectId }; // as above
  }
}

function readArray(cursor: Cursor): Extract<Arg<never>, { kind: "array" }> | Fault {
  const length = cursor.uint();
  const bytes = length === undefined ? undefined : cursor.bytes(length);
  return bytes === undefined ? truncated("array") : { kind: "array", value: bytes.slice() };
}

function readString(cursor: Cursor, nullable: boolean): Extract<Arg<never>, { kind: "string" }> | Fault {
  const length = cursor.uint();
  if (length === undefined) return truncated("string");
  if (length === 0) return nullable ? { kind: "string", value: null } : nullNotAllowed("string");
  const again = cursor.knownText(length);
  if (again !== undefined) return { kind: "string", value: again };
  const bytes = cursor.bytes(length);
  if (bytes === undefined) return truncated("string");
  const nul = bytes.indexOf(0);
  if (nul < 0) return fault("unterminated-string", `a string of ${length} bytes has no NUL at its end`);
  if (nul < length - 1) return fault("nul-in-string", `a string of ${length} bytes has a NUL before its end`);
  const text = bytes.subarray(0, nul);
  try {
    return { kind: "string", value: nul <= KNOWN_BYTES ? decodeKnown(text) : decoder.decode(text) };
  } catch {
    return fault("bad-utf8", `a string of ${length} bytes is not UTF-8`);
  }
}

/** Short texts that came last: the same names come again and again, and comparing one is less work than making it anew. */
type Known = { readonly bytes: Uint8Array; readonly value: string };

const KNOWN_BYTES = 64;
const known: (Known | undefined)[] = new Array(32).fill(undefined);

/** @param last  of its bytes */
function placeOf(last: number, length: number): number {
  return (last * 7 + length) & (known.length - 1);
}

/** @throws TypeError for what is not UTF-8 */
function decodeKnown(bytes: Uint8Array): string {
  const value = decoder.decode(bytes);
  known[placeOf(bytes[bytes.length - 1] ?? 0, bytes.length)] = { bytes: bytes.slice(), value };
  return value;
}

function readUntypedNewId(cursor: Cursor): Extract<Arg<never>, { kind: "untyped_new_id" }> | Fault {
  const name = readString(cursor, false);
  if (name.kind === "fault") return name;
  const version = cursor.uint();
  const id = cursor.uint();
  if (version === undefined || id === undefined) return truncated("new_id");
  if (id === 0 || name.value === null) return nullNotAllowed("new_id");
  return { kind: "untyped_new_id", interface: name.value, version, value: id as ObjectId }; // as above
}

function fault(reason: FaultReason, detail: string): Fault {
  return { kind: "fault", reason, detail };
}

function truncated(kind: string): Fault {
  return fault("truncated-argument", `its ${kind} argument goes beyond its end`);
}

function nullNotAllowed(kind: string): Fault {
  return fault("null-not-allowed", `its ${kind} argument is null`);
}

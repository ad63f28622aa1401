/**
 * Messages to bytes and descriptors. What does not fit the wire is our own bug and thrown as RangeError;
 * the descriptors stay the caller's in any case. Little-endian: host order on every machine shmlink runs on.
 */
import type { ObjectId } from "../util/brand.ts";
import { type Arg, HEADER_BYTES, MAX_MESSAGE_BYTES, MAX_MESSAGE_FDS, paddedBytes, type RawMessage } from "./types.ts";

/** The bytes are good until the next call. */
export type Encoded<Fd> = { readonly bytes: Uint8Array<ArrayBuffer>; readonly fds: readonly Fd[] };

// One message is built at a time, here; who wants to keep it copies it.
const scratch = new Uint8Array(MAX_MESSAGE_BYTES);
/** Its beginning, in each length that there was a message of. */
const beginnings: (Uint8Array<ArrayBuffer> | undefined)[] = new Array(MAX_MESSAGE_BYTES / 4 + 1).fill(undefined);
const NO_FDS: readonly never[] = [];
const view = new DataView(scratch.buffer);
const encoder = new TextEncoder();

/**
 * @throws RangeError when the message is longer than MAX_MESSAGE_BYTES, carries more than MAX_MESSAGE_FDS, or a value
 *   does not fit its argument: a fraction or too large a number, a NUL in a string
 */
export function encode<Fd>(message: RawMessage<Fd>): Encoded<Fd> {
  let some: Fd[] | undefined;
  let at = HEADER_BYTES;
  for (const arg of message.args) {
    if (arg.kind !== "fd") at = writeArg(at, arg);
    else if (some === undefined) some = [arg.value];
    else some.push(arg.value);
  }
  const fds = some ?? NO_FDS;
  if (fds.length > MAX_MESSAGE_FDS) {
    throw new RangeError(`Cannot encode ${fds.length} descriptors in one message: ${MAX_MESSAGE_FDS} is the most`);
  }
  writeUint(0, message.object);
  writeUint(4, checkInteger(message.opcode, 0, 0xffff, "opcode") + at * 0x10000);
  return { bytes: beginning(at), fds };
}

/** There are few lengths, a word apart, and a message is made for every answer. */
function beginning(length: number): Uint8Array<ArrayBuffer> {
  const known = beginnings[length / 4];
  if (known !== undefined) return known;
  const made = scratch.subarray(0, length);
  beginnings[length / 4] = made;
  return made;
}

function writeArg(at: number, arg: Exclude<Arg<never>, { kind: "fd" }>): number {
  switch (arg.kind) {
    case "int":
      return writeUint(at, checkInteger(arg.value, -0x80000000, 0x7fffffff, "int") >>> 0);
    case "fixed":
      return writeUint(at, checkInteger(Math.round(arg.value * 256), -0x80000000, 0x7fffffff, "fixed") >>> 0);
    case "uint":
    case "new_id":
      return writeUint(at, arg.value);
    case "object":
      return writeUint(at, arg.value ?? 0);
    case "string":
      return arg.value === null ? writeUint(at, 0) : writeString(at, arg.value);
    case "array":
      return writeBytes(at, arg.value, 0);
    case "untyped_new_id":
      return writeUntypedNewId(at, arg.interface, arg.version, arg.value);
  }
}

function writeUntypedNewId(at: number, interfaceName: string, version: number, id: ObjectId): number {
  return writeUint(writeUint(writeString(at, interfaceName), version), id);
}

function writeUint(at: number, value: number): number {
  checkRoom(at, 4);
  view.setUint32(at, checkInteger(value, 0, 0xffffffff, "uint"), true);
  return at + 4;
}

/** What is longer is left to the runtime; so is what is not ASCII, and a NUL, which is refused. */
const SHORT_CHARACTERS = 128;

function writeString(at: number, value: string): number {
  const { length } = value;
  const end = at + 4 + paddedBytes(length + 1);
  if (length > SHORT_CHARACTERS || end > MAX_MESSAGE_BYTES) return writeAnyString(at, value);
  view.setUint32(end - 4, 0, true); // the terminator and the padding
  for (let index = 0; index < length; index++) {
    const code = value.charCodeAt(index);
    if (code === 0 || code > 0x7f) return writeAnyString(at, value);
    scratch[at + 4 + index] = code;
  }
  view.setUint32(at, length + 1, true);
  return end;
}

function writeAnyString(at: number, value: string): number {
  if (value.includes("\0")) throw new RangeError(`Cannot encode string "${value.slice(0, 40)}": it contains a NUL`);
  return writeBytes(at, encoder.encode(value), 1);
}

/** Length, bytes, `terminatorBytes` zeros that count as length, and padding that does not. */
function writeBytes(at: number, bytes: Uint8Array, terminatorBytes: number): number {
  const length = bytes.length + terminatorBytes;
  const end = at + 4 + paddedBytes(length);
  checkRoom(at, end - at);
  view.setUint32(at, length, true);
  scratch.set(bytes, at + 4);
  scratch.fill(0, at + 4 + bytes.length, end);
  return end;
}

function checkRoom(at: number, bytes: number): void {
  if (at + bytes > MAX_MESSAGE_BYTES) {
    throw new RangeError(`Cannot encode a message of ${at + bytes} bytes or more: ${MAX_MESSAGE_BYTES} is the most`);
  }
}

function checkInteger(value: number, low: number, high: number, what: string): number {
  if (Number.isInteger(value) && value >= low && value <= high) return value;
  throw new RangeError(`Cannot encode ${what} "${value}": it is not an integer from ${low} to ${high}`);
}

/**
 * Bytes and descriptors to messages, as they trickle in. Total: whatever a peer sends becomes a message, a fault, or
 * "not enough yet". After a fault the stream has no meaning any more and every call repeats the fault.
 *
 * Descriptors wait in the order of their arrival and belong to the reader until a message takes them or drainFds() does.
 */
import type { ObjectId } from "../util/brand.ts";
import { copyBytes } from "../util/copy-bytes.ts";
import { Cursor, decodeArgs } from "./decode-args.ts";
import {
  type FaultReason,
  HEADER_BYTES,
  MAX_MESSAGE_BYTES,
  MAX_WAITING_FDS,
  type RawMessage,
  type Signature,
  type WireFault,
} from "./types.ts";

/** Says what the arguments of `opcode` on `object` look like; asked once a header is there, in stream order. */
export type Lookup = (object: number, opcode: number) => Signature | "unknown-object" | "unknown-opcode";

/** Few connections are busy: a reader begins small, grows when a lot comes at once, and falls back when all is decoded. */
const RESTING_BYTES = 1024;

type Header = { readonly object: number; readonly opcode: number; readonly sizeBytes: number };

export class WireReader<Fd> {
  #buffer = new Uint8Array(RESTING_BYTES);
  #view = new DataView(this.#buffer.buffer);
  readonly #cursor = new Cursor();
  #start = 0;
  #end = 0;
  #fds: Fd[] = [];
  #fdStart = 0;
  #fault: WireFault | undefined;

  /** Bytes that wait for the rest of their message. */
  get waitingBytes(): number {
    return this.#end - this.#start;
  }

  /** Adds what was received. The bytes are copied, the descriptors become the reader's. */
  push(bytes: Uint8Array, fds: readonly Fd[]): void {
    this.#makeRoom(bytes.length);
    copyBytes(bytes, this.#buffer, this.#end);
    this.#end += bytes.length;
    for (const fd of fds) this.#fds.push(fd);
  }

  /** How many descriptors no message has taken yet. */
  get waitingFdCount(): number {
    return this.#fds.length - this.#fdStart;
  }

  /** The next message, a fault, or undefined when more bytes are needed. */
  next(lookup: Lookup): RawMessage<Fd> | WireFault | undefined {
    if (this.#fault !== undefined) return this.#fault;
    const header = this.#header();
    if (header === undefined) return this.#wait();
    const bad = checkSize(header.sizeBytes);
    if (bad !== undefined) return this.#fail(header, ...bad);
    const signature = lookup(header.object, header.opcode);
    if (signature === "unknown-object") return this.#fail(header, signature, "there is no such object");
    if (signature === "unknown-opcode") return this.#fail(header, signature, "the object has no such message");
    if (this.waitingBytes < header.sizeBytes) return this.#wait();
    return this.#decode(header, signature);
  }

  /** Descriptors that no message has taken yet. */
  get waitingFds(): readonly Fd[] {
    return this.#fdStart === this.#fds.length ? [] : this.#fds.slice(this.#fdStart);
  }

  /** Gives back the descriptors that no message has taken: the caller owns them. */
  drainFds(): Fd[] {
    const fds = this.#fds.slice(this.#fdStart);
    this.#fds = [];
    this.#fdStart = 0;
    return fds;
  }

  #decode(header: Header, signature: Signature): RawMessage<Fd> | WireFault {
    const { object, opcode, sizeBytes } = header;
    this.#cursor.reset(this.#buffer, this.#view, this.#start + HEADER_BYTES, this.#start + sizeBytes);
    const result = decodeArgs(this.#cursor, signature, this.#fds, this.#fdStart);
    if (result.kind === "fault") return this.#fail(header, result.reason, result.detail);
    this.#start += sizeBytes;
    this.#dropFds(result.fdCount);
    // object is known to the lookup, which has made it an ObjectId before
    return { kind: "message", object: object as ObjectId, opcode, args: result.args };
  }

  #header(): Header | undefined {
    if (this.waitingBytes < HEADER_BYTES) return undefined;
    const word = this.#view.getUint32(this.#start + 4, true);
    return { object: this.#view.getUint32(this.#start, true), opcode: word & 0xffff, sizeBytes: word >>> 16 };
  }

  #wait(): WireFault | undefined {
    if (this.waitingBytes === 0 && this.#buffer.length > 2 * MAX_MESSAGE_BYTES) this.#rest();
    const waiting = this.#fds.length - this.#fdStart;
    if (waiting <= MAX_WAITING_FDS) return undefined;
    const header = this.#header() ?? { object: 1, opcode: 0 };
    return this.#fail(header, "too-many-fds", `${waiting} descriptors came without a message that takes them`);
  }

  #fail({ object, opcode }: { object: number; opcode: number }, reason: FaultReason, detail: string): WireFault {
    this.#fault = { kind: "fault", reason, object, opcode, detail };
    return this.#fault;
  }

  /** Taken descriptors go in bulk, so that a long queue costs no more than a short one. */
  #dropFds(count: number): void {
    if (count === 0) return;
    this.#fdStart += count;
    if (this.#fdStart === this.#fds.length) this.#fds.length = this.#fdStart = 0;
    else if (this.#fdStart > 64 && this.#fdStart * 2 > this.#fds.length) {
      this.#fds.splice(0, this.#fdStart);
      this.#fdStart = 0;
    }
  }

  #rest(): void {
    this.#replace(new Uint8Array(RESTING_BYTES));
    this.#start = this.#end = 0;
  }

  #replace(buffer: Uint8Array<ArrayBuffer>): void {
    this.#buffer = buffer;
    this.#view = new DataView(buffer.buffer);
  }

  /** Each byte is moved at most a constant number of times: to the front when that frees half, else into twice the room. */
  #makeRoom(bytes: number): void {
    if (this.#start === this.#end) this.#start = this.#end = 0;
    if (this.#end + bytes <= this.#buffer.length) return;
    const needed = this.waitingBytes + bytes;
    const source = this.#buffer;
    if (needed * 2 > source.length) this.#replace(new Uint8Array(needed * 2));
    this.#buffer.set(source.subarray(this.#start, this.#end), 0);
    this.#end = this.waitingBytes;
    this.#start = 0;
  }
}

function checkSize(sizeBytes: number): [FaultReason, string] | undefined {
  if (sizeBytes < HEADER_BYTES)
    return ["size-too-small", `its size is ${sizeBytes} bytes, ${HEADER_BYTES} is the least`];
  if (sizeBytes > MAX_MESSAGE_BYTES) {
    return ["size-too-large", `its size is ${sizeBytes} bytes, ${MAX_MESSAGE_BYTES} is the most`];
  }
  if (sizeBytes % 4 !== 0) return ["size-unaligned", `its size is ${sizeBytes} bytes, not a multiple of 4`];
  return undefined;
}

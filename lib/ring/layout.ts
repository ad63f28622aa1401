/**
 * Where everything lies in a ring's memfd; docs/ring-layout.md is the same in prose. Numbers only, no I/O.
 *
 * Invariant: every byte of the file is written by one side, its producer. The header page is written once, before the
 * file is handed out, and copied by both sides once; nobody reads it again.
 */
import { ProtocolError } from "../errors.ts";

export const RING_MAGIC = 0x4b4c4853; // "SHLK" in memory, little-endian
export const LAYOUT_VERSION = 1;
export const HEADER_BYTES = 4096;
export const CONTROL_BYTES = 4096;
export const DATA_OFFSET: number = HEADER_BYTES + CONTROL_BYTES;

export const MIN_CAPACITY = 4096;
export const MAX_CAPACITY: number = 2 ** 30; // so that 32-bit positions tell full from empty

/** Of the other side's ring, where nothing else is said. */
export const DEFAULT_MAX_PEER_CAPACITY: number = 2 ** 26;

export const RECORD_HEADER_BYTES = 8;
/** Longest message, all its fragments together. */
export const MAX_MESSAGE_BYTES: number = 2 ** 28;

/** Index of each control word in an Int32Array over the file. Hot ones are 128 bytes apart: two cache lines, because
 *  processors fetch lines in pairs. */
export const TAIL: number = HEADER_BYTES / 4; //       bytes produced into this ring
export const HEAD: number = TAIL + 32; //              bytes consumed from the other ring
export const DATA_WAKE: number = TAIL + 64; //         asleep until the other side's TAIL gets here
export const SPACE_WAKE: number = TAIL + 96; //        asleep until the other side's HEAD gets here
export const STATE: number = TAIL + 128; //            STATE_FINISHED
export const SCRATCH: number = TAIL + 160; //          never read by the other side; see peer-load.ts
// Statistics, 64-bit each: low word, high word
export const COLD_BYTES: number = TAIL + 192;
export const COLD_MESSAGES: number = COLD_BYTES + 2;
export const COLD_DATA_WAKEUPS: number = COLD_BYTES + 4; //  doorbells rung because of data in this ring
export const COLD_SPACE_WAKEUPS: number = COLD_BYTES + 6; // doorbells rung because of space made in the other ring
export const COLD_DROPPED: number = COLD_BYTES + 8; //       messages that were not produced, because there was no room
export const COLD_SKIPPED: number = COLD_BYTES + 10; //      messages of the other ring that were thrown away unread
export const COLD_HUGE: number = COLD_BYTES + 12; //         bytes of this ring that lie in huge pages

/** A wake word is 0 while its writer is awake, else the position to wake at (a multiple of 8) and WAKE_ARMED.
 *  DATA_WAKE with WAKE_GONE says that its writer will never read again. */
export const WAKE_ARMED = 1;
export const WAKE_GONE = 2;

/** Nothing will be published after the present tail. */
export const STATE_FINISHED = 1;

/** Record flags, the upper half of the second header word. A whole message has FIRST and LAST. */
export const FIRST = 1;
export const LAST = 2;
export const PAD = 4; // no message: fills the rest of the ring up to its end

export type RingMemory = { readonly words: Int32Array; readonly bytes: Uint8Array };

/** Views over the whole file. */
export function ringMemory(buffer: ArrayBuffer): RingMemory {
  return { words: new Int32Array(buffer), bytes: new Uint8Array(buffer) };
}

export function isCapacity(capacity: number): boolean {
  return capacity >= MIN_CAPACITY && capacity <= MAX_CAPACITY && Number.isInteger(Math.log2(capacity));
}

/** Of a side that only receives: its file ends after the control page, so there is nowhere to put a record. */
export const NO_CAPACITY = 0;

/** Size of the memfd for a ring of `capacity` bytes, or of the file of a side that has none.
 *  @throws RangeError unless it is a power of two in 4 KiB … 1 GiB, or NO_CAPACITY */
export function ringFileBytes(capacity: number): number {
  if (capacity !== NO_CAPACITY && !isCapacity(capacity)) {
    throw new RangeError(`Cannot make a ring of "${capacity}" bytes: a power of two from 4096 to 2^30 is needed`);
  }
  return DATA_OFFSET + capacity;
}

/** Longest payload that goes in one record: with its header it fills half the ring. */
export function maxPayloadBytes(capacity: number): number {
  return capacity / 2 - RECORD_HEADER_BYTES;
}

export type RingSide = 0 | 1;

export type RingHeader = { readonly channelId: number; readonly side: RingSide; readonly capacity: number };

/** In the header of a ring that was made before the channel that it is of: it names no channel, and its side says nothing. */
export const NO_CHANNEL = 0;

const HEADER_WORDS = 8;

/** The header page's used part. Little-endian like all of the ring. */
export function encodeHeader(header: RingHeader): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(4 * HEADER_WORDS);
  writeHeader(bytes.buffer, header);
  return bytes;
}

/** The same to the start of a ring's file. */
export function writeHeader(file: ArrayBuffer, { channelId, side, capacity }: RingHeader): void {
  const words = new Uint32Array(file, 0, HEADER_WORDS);
  words[0] = RING_MAGIC;
  words[1] = LAYOUT_VERSION;
  words[2] = channelId;
  words[3] = side;
  words[4] = capacity;
  words[5] = HEADER_BYTES;
  words[6] = DATA_OFFSET;
  words[7] = 0; // the kind of doorbell
}

/** Of a header that is looked at: it may change meanwhile. */
const COPY = new Uint32Array(HEADER_WORDS);
const COPY_BYTES = new Uint8Array(COPY.buffer);

/** Reads a header and believes nothing of it. @param fileBytes  what fstat says of the file
 *  @throws ProtocolError naming the field */
export function decodeHeader(page: Uint8Array, fileBytes: number): RingHeader {
  for (let index = 0; index < COPY_BYTES.length; index++) COPY_BYTES[index] = page[index] ?? 0;
  expect("magic", copied(0), RING_MAGIC);
  expect("layout version", copied(1), LAYOUT_VERSION);
  expect("control offset", copied(5), HEADER_BYTES);
  expect("data offset", copied(6), DATA_OFFSET);
  expect("kind of doorbell", copied(7), 0);
  const side = copied(3);
  const capacity = copied(4);
  if (side !== 0 && side !== 1) expect("side", side, 1);
  if (capacity !== NO_CAPACITY && !isCapacity(capacity)) {
    throw new ProtocolError(
      `Cannot use the ring: capacity is "${capacity}", a power of two from 4096 to 2^30 is needed`,
    );
  }
  expect("file size", fileBytes, ringFileBytes(capacity));
  return { channelId: copied(2), side: side === 1 ? 1 : 0, capacity };
}

function copied(index: number): number {
  return COPY[index] ?? 0;
}

function expect(field: string, found: number, wanted: number): void {
  if (found !== wanted) throw new ProtocolError(`Cannot use the ring: ${field} is "${found}", "${wanted}" is needed`);
}

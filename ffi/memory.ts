/**
 * Memory with a fixed address, for structs that the kernel reads or fills. It comes from mmap, so no collector moves
 * or frees it, and from one arena that lives as long as the process: take what a module needs once, at its top.
 */
import { mapForever } from "./code-page.ts";
import { backend } from "./load.ts";

const ARENA_BYTES = 1 << 16;
const ALIGN_BYTES = 16;

export type NativeMemory = {
  readonly address: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly data: DataView;
};

let arena: { address: number; buffer: ArrayBuffer; used: number } | undefined;

function fresh(lengthBytes: number): { address: number; buffer: ArrayBuffer; used: number } {
  const address = mapForever(lengthBytes);
  return { address, buffer: backend.view(address, lengthBytes), used: 0 };
}

/** Takes `lengthBytes` of zeroed memory for the life of the process. Larger pieces get a mapping of their own. */
export function allocateForever(lengthBytes: number): NativeMemory {
  const length = Math.ceil(lengthBytes / ALIGN_BYTES) * ALIGN_BYTES;
  if (length >= ARENA_BYTES / 2) return piece(fresh(length), 0, lengthBytes);
  if (arena === undefined || arena.used + length > ARENA_BYTES) arena = fresh(ARENA_BYTES);
  const offset = arena.used;
  arena.used += length;
  return piece(arena, offset, lengthBytes);
}

function piece(from: { address: number; buffer: ArrayBuffer }, offset: number, length: number): NativeMemory {
  return {
    address: from.address + offset,
    bytes: new Uint8Array(from.buffer, offset, length),
    data: new DataView(from.buffer, offset, length),
  };
}

const encoder = new TextEncoder();

/** `text` as a C string; a NUL inside would silently cut it, so it is refused. */
export function cString(text: string): Uint8Array<ArrayBuffer> {
  if (text.includes("\0")) throw new TypeError(`Cannot pass "${text}" to the kernel: it contains a NUL`);
  return encoder.encode(`${text}\0`);
}

/**
 * Memory with a fixed address, for structs that the kernel reads or fills. It comes from mmap, so no collector moves
 * or frees it, and from one arena that lives as long as the process: a module asks for what it needs once, at its top.
 */
import { mapForever } from "./code-page.ts";
import { backend } from "./load.ts";

const ARENA_BYTES = 1 << 16;
const ALIGN_BYTES = 16;

export type NativeMemory = {
  readonly address: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly data: DataView<ArrayBuffer>;
};

type Untaken = NativeMemory & { readonly lengthBytes: number };

/**
 * Memory is taken, and viewed, when it is first asked for: most modules are loaded and not called. From then on it has what
 * is asked for as properties of its own. What every start calls dozens of times is compiled by the runtime, in threads that
 * it starts for that: so there is no function for each piece, nor for each access.
 */
const untaken: Untaken = {
  lengthBytes: 0,
  get address() {
    return take(this).address;
  },
  get bytes() {
    return take(this).bytes;
  },
  get data() {
    return take(this).data;
  },
};

function take(memory: Untaken): NativeMemory {
  const { lengthBytes } = memory;
  const { from, offset } = takeRoom(lengthBytes);
  Object.defineProperty(memory, "address", { value: from.address + offset });
  Object.defineProperty(memory, "bytes", { value: new Uint8Array(from.buffer, offset, lengthBytes) });
  Object.defineProperty(memory, "data", { value: new DataView(from.buffer, offset, lengthBytes) });
  return memory;
}

type Arena = { readonly address: number; readonly buffer: ArrayBuffer; used: number };

let arena: Arena | undefined;

/** Zeroed memory for the life of the process. Larger pieces get a mapping of their own. */
export function allocateForever(lengthBytes: number): NativeMemory {
  return { lengthBytes, __proto__: untaken } as unknown as NativeMemory;
}

/** The same for several pieces. */
export function allocateEach<const L extends readonly number[]>(...lengths: L): { [I in keyof L]: NativeMemory } {
  const pieces: NativeMemory[] = [];
  for (const lengthBytes of lengths) pieces.push({ lengthBytes, __proto__: untaken } as unknown as NativeMemory);
  return pieces as unknown as { [I in keyof L]: NativeMemory };
}

function takeRoom(lengthBytes: number): { readonly from: Arena; readonly offset: number } {
  const length = Math.ceil(lengthBytes / ALIGN_BYTES) * ALIGN_BYTES;
  if (length >= ARENA_BYTES / 2) return { from: fresh(length), offset: 0 };
  if (arena === undefined || arena.used + length > ARENA_BYTES) arena = fresh(ARENA_BYTES);
  const offset = arena.used;
  arena.used += length;
  return { from: arena, offset };
}

function fresh(lengthBytes: number): Arena {
  const address = mapForever(lengthBytes);
  return { address, buffer: backend.view(address, lengthBytes), used: 0 };
}

const encoder = new TextEncoder();

/** `text` as a C string; a NUL inside would silently cut it, so it is refused. */
export function cString(text: string): Uint8Array<ArrayBuffer> {
  if (text.includes("\0")) throw new TypeError(`Cannot pass "${text}" to the kernel: it contains a NUL`);
  return encoder.encode(`${text}\0`);
}

/**
 * Memory with a fixed address, for structs that the kernel reads or fills. It comes from mmap, so no collector moves
 * or frees it, and from one arena that lives as long as the process: a module asks for what it needs once, at its top.
 */
import { mapForever } from "./code-page.ts";
import { backend } from "./load.ts";

const ARENA_BYTES = 1 << 16;
const ALIGN_BYTES = 16;

/** Memory that is taken, and viewed, when it is first asked for: most modules are loaded and not called. */
export class NativeMemory {
  readonly #length: number;
  #address = 0;
  #bytes: Uint8Array<ArrayBuffer> | undefined;
  #data: DataView<ArrayBuffer> | undefined;

  /** Use allocateForever(). */
  constructor(length: number) {
    this.#length = length;
  }

  get address(): number {
    if (this.#address === 0) this.#take();
    return this.#address;
  }

  get bytes(): Uint8Array<ArrayBuffer> {
    return this.#bytes ?? this.#take();
  }

  get data(): DataView<ArrayBuffer> {
    if (this.#data !== undefined) return this.#data;
    const { buffer, byteOffset, length } = this.bytes;
    this.#data = new DataView(buffer, byteOffset, length);
    return this.#data;
  }

  #take(): Uint8Array<ArrayBuffer> {
    const { from, offset } = takeRoom(this.#length);
    this.#address = from.address + offset;
    this.#bytes = new Uint8Array(from.buffer, offset, this.#length);
    return this.#bytes;
  }
}

type Arena = { readonly address: number; readonly buffer: ArrayBuffer; used: number };

let arena: Arena | undefined;

/** Zeroed memory for the life of the process. Larger pieces get a mapping of their own. */
export function allocateForever(lengthBytes: number): NativeMemory {
  return new NativeMemory(lengthBytes);
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

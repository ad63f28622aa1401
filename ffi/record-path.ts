/**
 * The common case of sending and receiving in machine code (machine/record-path.c): one of these for each end of a ring,
 * made when a caller comes with the same buffer again. On Bun alone: a call of a function pointer costs 3 ns there, 25 ns
 * with koffi and a microsecond on Deno, where TypeScript is faster. The code and the words that it works on are one mapping for
 * the thread, the code executable and never writable, the words writable and never executable.
 */

import { calls } from "./calls.ts";
import { ARCH, codeBytes } from "./code-page.ts";
import { MAP_ANONYMOUS, MAP_PRIVATE, PROT_EXEC, PROT_READ, PROT_WRITE } from "./constants.ts";
import { backend } from "./load.ts";
import { CODE_HEX, DATA_OFFSET, OFFSETS, type RecordPathName } from "./machine/record-path.gen.ts";
import type { ArgKind } from "./symbols.ts";

/** More ends than that at a time do without; 128 bytes each, taken from the system as they are used. */
const MAX_PATHS = 8192;
const PATH_BYTES = 128;
const POINTER_BYTES = 32;
const STATE_BYTES: number = PATH_BYTES - POINTER_BYTES;
const [OWN, PEER, BUFFER, PACKED] = [0, 1, 2, 3]; // which pointer
const OUT_BLOCKED_IN_STATE = 3; // either word, when it is not 0, refuses
const CLOSED = 0; // the path of all that were closed: it refuses everything

type Native = (...args: (number | ArrayBufferView)[]) => number;
type Machine = { readonly address: number; readonly words: ArrayBuffer; readonly free: number[] };

/** undefined where there is none, or the system does not let machine code be made. */
let machine: Machine | undefined | "unknown" = "unknown";

function load(): Machine | undefined {
  if (machine === "unknown") machine = install();
  return machine;
}

function install(): Machine | undefined {
  if (ARCH !== "x64" || backend.name !== "bun") return undefined;
  const length = DATA_OFFSET + MAX_PATHS * PATH_BYTES;
  const address = calls.mmap(0, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address < 0) return undefined;
  new Uint8Array(backend.view(address, DATA_OFFSET)).set(codeBytes(CODE_HEX));
  if (calls.mprotect(address, DATA_OFFSET, PROT_READ | PROT_EXEC) < 0) {
    calls.munmap(address, length);
    return undefined;
  }
  const words = backend.view(address + DATA_OFFSET, MAX_PATHS * PATH_BYTES);
  new Int32Array(words, POINTER_BYTES)[OUT_BLOCKED_IN_STATE] = -1; // of CLOSED
  backend.pointer(address + OFFSETS.probe, { args: [], result: "i32" })();
  return { address, words, free: Array.from({ length: MAX_PATHS - 1 }, (_, index) => MAX_PATHS - 1 - index) };
}

/** Bound when they are first called: each costs the runtime's compiler a while. */
function bind(name: RecordPathName, args: readonly ArgKind[]): Native {
  const loaded = load();
  if (loaded === undefined) throw new TypeError("Cannot call machine code that is not there");
  return backend.pointer(loaded.address + OFFSETS[name], { args, result: "i32" }) as Native;
}

/** @returns what binds the function at its first call, and hands it to `replace` */
function lazily(name: RecordPathName, args: readonly ArgKind[], replace: (bound: Native) => void): Native {
  return (...values) => {
    const bound = bind(name, args);
    replace(bound);
    return bound(...values);
  };
}

let ringSend: Native = lazily("send", ["i32", "i32", "i32"], (bound) => {
  ringSend = bound;
});
let ringReceive: Native = lazily("receive", ["i32", "i32", "i32"], (bound) => {
  ringReceive = bound;
});
let ringPutPacked: Native = lazily("putPacked", ["i32", "i32", "i32", "i32", "i32"], (bound) => {
  ringPutPacked = bound;
});
let ringTakePacked: Native = lazily("takePacked", ["i32", "i32", "i32"], (bound) => {
  ringTakePacked = bound;
});
let ringLend: Native = lazily("lend", ["i32", "i32", "view"], (bound) => {
  ringLend = bound;
});

/** What each call does and answers is in machine/record-path.c, which lib/ring/fast-path.ts repeats. */
export class RecordPath {
  /** The words after the pointers. Forget it before close(): another path may have them then. */
  readonly state: Int32Array;
  #slot: number;

  /** Use open(). */
  constructor(words: ArrayBuffer, slot: number) {
    this.#slot = slot;
    this.state = new Int32Array(words, slot * PATH_BYTES + POINTER_BYTES, STATE_BYTES / 4).fill(0);
  }

  /** @param own  our ring's file, mapped for writing, and the peer's: both stay mapped until close()
   *  @returns undefined where there is no machine code, or when too many are open */
  static open(own: Uint8Array, peer: Uint8Array): RecordPath | undefined {
    const loaded = load();
    const slot = loaded?.free.pop();
    if (loaded === undefined || slot === undefined) return undefined;
    const path = new RecordPath(loaded.words, slot);
    ringLend(slot, OWN, own);
    ringLend(slot, PEER, peer);
    return path;
  }

  /** @returns false for bytes that may be moved while they keep their length; nothing is noted then */
  lend(which: "buffer" | "packed", bytes: Uint8Array): boolean {
    // Asked for, because until then a runtime may keep a small array where it can be moved.
    const { resizable, growable } = bytes.buffer as { resizable?: boolean; growable?: boolean };
    if (resizable === true || growable === true) return false; // WebAssembly's grow() moves it, and detaches nothing
    ringLend(this.#slot, which === "buffer" ? BUFFER : PACKED, bytes);
    return true;
  }

  send(length: number, type: number): number {
    return ringSend(this.#slot, length, type);
  }

  putPacked(messageBytes: number, from: number, to: number, type: number): number {
    return ringPutPacked(this.#slot, messageBytes, from, to, type);
  }

  receive(room: number, looks: number): number {
    return ringReceive(this.#slot, room, looks);
  }

  takePacked(messageBytes: number, most: number): number {
    return ringTakePacked(this.#slot, messageBytes, most);
  }

  /** Safe to call twice; every call after it is refused. */
  close(): void {
    if (this.#slot === CLOSED) return;
    load()?.free.push(this.#slot);
    this.#slot = CLOSED;
  }
}

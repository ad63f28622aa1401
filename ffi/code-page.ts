/**
 * Turns rows of the symbol table into function pointers: one page of system call thunks, written once and then made
 * executable (never writable and executable at a time). A thunk moves the fourth argument to where the kernel wants
 * it, loads the number, traps, and returns the kernel's own result, -errno included (syscall(2), "Architecture
 * calling conventions").
 */
import { MAP_ANONYMOUS, MAP_PRIVATE, PROT_EXEC, PROT_READ, PROT_WRITE } from "./constants.ts";
import { backend } from "./load.ts";
import { ARM64, X64 } from "./machine/machine-code.gen.ts";
import type { MachineCode } from "./machine/machine-code.ts";
import { SYMBOLS, type SymbolName } from "./symbols.ts";

const PAGE_BYTES = 4096;
const THUNK_BYTES = 16;

type Arch = "x64" | "arm64";

function detectArch(): Arch {
  if (process.arch === "x64" || process.arch === "arm64") return process.arch;
  throw new Error(`Cannot run on "${process.arch}": shmlink knows the system calls of x64 and arm64`);
}

export const ARCH: Arch = detectArch();
export const MACHINE: MachineCode = ARCH === "x64" ? X64 : ARM64;

const mmap = backend.library("mmap", SYMBOLS.mmap);
const mprotect = backend.library("mprotect", SYMBOLS.mprotect);

/** Maps fresh zeroed memory that is never given back; only the arena and the code pages come from here. */
export function mapForever(lengthBytes: number): number {
  const address = mmap(0, lengthBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address === -1) throw new Error(`Cannot map ${lengthBytes} bytes: the system is out of memory`);
  return address;
}

/** Copies `code` into memory of its own and makes it executable. @returns its address, valid for ever */
export function installCode(code: Uint8Array): number {
  const length = Math.ceil(code.length / PAGE_BYTES) * PAGE_BYTES;
  const address = mapForever(length);
  new Uint8Array(backend.view(address, length)).set(code);
  if (mprotect(address, length, PROT_READ | PROT_EXEC) !== 0) {
    throw new Error("Cannot make a page executable: is MemoryDenyWriteExecute= or SELinux execmem in force?");
  }
  return address;
}

/** The bytes of code that is kept as hexadecimal text. */
export function codeBytes(hex: string): Uint8Array<ArrayBuffer> {
  const { fromHex } = Uint8Array as { fromHex?: (hex: string) => Uint8Array<ArrayBuffer> }; // ES2026
  if (fromHex !== undefined) return fromHex.call(Uint8Array, hex);
  return Uint8Array.from(hex.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}

/** Installs code that is kept so, which takes the address of a struct of its own. @param offset  of its entry */
export function installEntry(hex: string, offset: number): (struct: number) => number {
  return backend.pointer(installCode(codeBytes(hex)) + offset, { args: ["address"], result: "i32" });
}

/** The machine code of this architecture, with the slot of on_signal() set to `signalFd`. */
export function machineCode(signalFd: number): Uint8Array {
  const code = codeBytes(MACHINE.hex);
  new DataView(code.buffer).setInt32(MACHINE.offsets.signalFd, signalFd, true);
  return code;
}

const NAMES = Object.keys(SYMBOLS) as SymbolName[];

/** A word at a time, and without a function for each: it is part of every start. */
function installThunks(): number {
  const words = new Uint32Array((NAMES.length * THUNK_BYTES) / 4);
  let at = 0;
  for (const name in SYMBOLS) {
    const nr = SYMBOLS[name as SymbolName].nr[ARCH];
    if (ARCH === "x64") {
      words[at] = 0xb8ca8949; // mov r10, rcx; mov eax,
      words[at + 1] = nr;
      words[at + 2] = 0x00c3050f; // syscall; ret
    } else {
      words[at] = 0xd2800008 | (nr << 5); // mov x8, #nr
      words[at + 1] = 0xd4000001; // svc #0
      words[at + 2] = 0xd65f03c0; // ret
    }
    at += THUNK_BYTES / 4;
  }
  return installCode(new Uint8Array(words.buffer));
}

const thunks: number = installThunks();

/** Address of the thunk for `name`: a C function with the prototype in the symbol table. */
export function thunkAddress(name: SymbolName): number {
  return thunks + NAMES.indexOf(name) * THUNK_BYTES;
}

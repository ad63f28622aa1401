/** What a runtime must offer so that shmlink can make system calls and see mapped memory. */
import type { ArgKind, ResultKind } from "./symbols.ts";

export type Signature = { readonly args: readonly ArgKind[]; readonly result: ResultKind };

export type NativeFunction = (...args: (number | ArrayBufferView | null)[]) => number;

export type BackendName = "bun" | "deno" | "koffi";

export type Backend = {
  readonly name: BackendName;
  /** Binds a C function of the platform's libc; needed only for the two calls that build the code page. */
  library(symbol: string, signature: Signature): NativeFunction;
  /** Binds the machine code at `address` as a C function. */
  pointer(address: number, signature: Signature): NativeFunction;
  /** An ArrayBuffer over `length` bytes at `address`, not copied and never freed by the runtime. */
  view(address: number, length: number): ArrayBuffer;
  /** Detaches `buffer` from its memory: every view of it gets length 0. False where the runtime cannot. */
  detach(buffer: ArrayBuffer): boolean;
};

/** Libraries tried for `library()`, in order: glibc, musl. */
export const LIBC_NAMES: readonly string[] = [
  "libc.so.6",
  "libc.so",
  "libc.musl-x86_64.so.1",
  "libc.musl-aarch64.so.1",
];

/** Opens the first of LIBC_NAMES that `open` accepts; the last error says why none was. */
export function openFirst<T>(open: (name: string) => T): T {
  let last: unknown;
  for (const name of LIBC_NAMES) {
    try {
      return open(name);
    } catch (error) {
      last = error;
    }
  }
  throw new Error(`Cannot open the C library, tried ${LIBC_NAMES.join(", ")}`, { cause: last });
}

/** Detaches by moving the memory, or none of it, to a new, unreachable ArrayBuffer; nothing is copied.
 *  A buffer that the runtime marked untransferable, or that a native job of its uses, stays as it was, and the answer is
 *  false. (structuredClone() would copy all of the latter.) */
export function detachByTransfer(buffer: ArrayBuffer): boolean {
  const { transfer } = buffer as { transfer?: (length: number) => ArrayBuffer };
  try {
    if (transfer === undefined) structuredClone(buffer, { transfer: [buffer] });
    else transfer.call(buffer, 0);
  } catch {
    return false;
  }
  return buffer.byteLength === 0;
}

/** bun:ffi. Pointers are numbers; small results come back as numbers, large ones as BigInt. */
import { type Backend, detachByTransfer, type NativeFunction, openFirst, type Signature } from "../backend.ts";
import type { ArgKind } from "../symbols.ts";

// The part of bun:ffi in use, so that a test can hand in a fake and Deno need not know the module.
export type BunFfi = {
  dlopen(name: string, symbols: Record<string, unknown>): { symbols: Record<string, unknown> };
  CFunction(definition: unknown): unknown;
  toArrayBuffer(address: number, byteOffset: number, byteLength: number): ArrayBuffer;
};

const ARGS: Record<ArgKind, string> = { i32: "i32", u32: "u32", i64: "i64", address: "u64", view: "ptr" };

function definition(signature: Signature): { args: string[]; returns: string } {
  return { args: signature.args.map((kind) => ARGS[kind]), returns: signature.result === "i64" ? "i64_fast" : "i32" };
}

type Arg = Parameters<NativeFunction>[number];

/** mmap(2) is the one with a large result, and called for every ring: no list of its arguments is made each time. */
function numeric(fn: NativeFunction, signature: Signature): NativeFunction {
  if (signature.result !== "i64") return fn;
  return (a: Arg, b: Arg, c: Arg, d: Arg, e: Arg, f: Arg) => Number(fn(a, b, c, d, e, f));
}

export function createBunBackend(ffi: BunFfi): Backend {
  return {
    name: "bun",
    library(symbol, signature) {
      const opened = openFirst((name) => ffi.dlopen(name, { [symbol]: definition(signature) }));
      return numeric(opened.symbols[symbol] as NativeFunction, signature);
    },
    pointer(address, signature) {
      return numeric(ffi.CFunction({ ptr: address, ...definition(signature) }) as NativeFunction, signature);
    },
    view: (address, length) => ffi.toArrayBuffer(address, 0, length),
    detach: detachByTransfer,
  };
}

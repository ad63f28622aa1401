/** bun:ffi. Pointers are numbers; small results come back as numbers, large ones as BigInt. */
import { type Backend, detachByTransfer, type NativeFunction, openFirst, type Signature } from "../backend.ts";

// The part of bun:ffi in use, so that a test can hand in a fake and Deno need not know the module.
export type BunFfi = {
  dlopen(name: string, symbols: Record<string, unknown>): { symbols: Record<string, unknown> };
  CFunction(definition: unknown): unknown;
  toArrayBuffer(address: number, byteOffset: number, byteLength: number): ArrayBuffer;
};

/** Two of our names for types are others to it. */
function definition(signature: Signature): { args: string[]; returns: string } {
  // In one go, and not a function for each: see memory.ts.
  const text = signature.args.join().replaceAll("address", "u64").replaceAll("view", "ptr");
  return { args: text === "" ? [] : text.split(","), returns: signature.result === "i64" ? "i64_fast" : "i32" };
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

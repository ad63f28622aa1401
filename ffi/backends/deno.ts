/** Deno.dlopen. 64-bit results are BigInt, views travel as `buffer`, addresses as `usize`. */
import { type Backend, detachByTransfer, type NativeFunction, openFirst, type Signature } from "../backend.ts";
import type { ArgKind } from "../symbols.ts";

// The part of the Deno namespace in use; @types/deno would clash with the other runtimes' globals.
export type DenoFfi = {
  dlopen(name: string, symbols: Record<string, unknown>): { symbols: Record<string, (...args: unknown[]) => unknown> };
  UnsafeFnPointer: new (pointer: unknown, definition: unknown) => { call(...args: unknown[]): unknown };
  UnsafePointer: { create(address: bigint): unknown };
  UnsafePointerView: { getArrayBuffer(pointer: unknown, length: number): ArrayBuffer };
};

const ARGS: Record<ArgKind, string> = { i32: "i32", u32: "u32", i64: "i64", address: "usize", view: "buffer" };

function definition(signature: Signature): { parameters: string[]; result: string } {
  return { parameters: signature.args.map((kind) => ARGS[kind]), result: signature.result };
}

type Wide = (...args: unknown[]) => unknown;

/** Deno refuses fractions and takes 64-bit integers as number or BigInt; only the result needs narrowing. */
function numeric(fn: Wide, signature: Signature): NativeFunction {
  return signature.result === "i64" ? (...args) => Number(fn(...args)) : (fn as NativeFunction);
}

export function createDenoBackend(deno: DenoFfi): Backend {
  return {
    name: "deno",
    library(symbol, signature) {
      const opened = openFirst((name) => deno.dlopen(name, { [symbol]: definition(signature) }));
      return numeric(opened.symbols[symbol] as Wide, signature);
    },
    pointer(address, signature) {
      const fn = new deno.UnsafeFnPointer(deno.UnsafePointer.create(BigInt(address)), definition(signature));
      return numeric((...args) => fn.call(...args), signature);
    },
    view: (address, length) =>
      deno.UnsafePointerView.getArrayBuffer(deno.UnsafePointer.create(BigInt(address)), length),
    detach: detachByTransfer,
  };
}

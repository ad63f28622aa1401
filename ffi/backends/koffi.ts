/** koffi: the backend for Node, and the fallback on Bun and Deno. */
import { type Backend, detachByTransfer, type NativeFunction, openFirst, type Signature } from "../backend.ts";
import type { ArgKind } from "../symbols.ts";

// The part of koffi in use, so that a test can hand in a fake.
export type Koffi = {
  load(name: string): { func(name: string, result: string, args: string[]): unknown };
  proto(name: string, result: string, args: string[]): unknown;
  decode(pointer: bigint, type: unknown): unknown;
  view(pointer: bigint, length: number): ArrayBuffer;
};

const ARGS: Record<ArgKind, string> = {
  i32: "int32_t",
  u32: "uint32_t",
  i64: "int64_t",
  address: "uint64_t",
  view: "void *",
};
const RESULTS: Record<Signature["result"], string> = { i32: "int32_t", i64: "int64_t" };

/** koffi registers prototypes by name in one table for the process, which workers and copies of this module share. */
const PREFIX = `shmlink_${Math.random().toString(36).slice(2)}`;
let prototypes = 0;

function numeric(fn: unknown, signature: Signature): NativeFunction {
  const call = fn as NativeFunction;
  return signature.result === "i64" ? (...args) => Number(call(...args)) : call;
}

export function createKoffiBackend(koffi: Koffi, detach: (buffer: ArrayBuffer) => boolean = detachByTransfer): Backend {
  const argNames = (signature: Signature): string[] => signature.args.map((kind) => ARGS[kind]);
  return {
    name: "koffi",
    library(symbol, signature) {
      const fn = openFirst((name) => koffi.load(name).func(symbol, RESULTS[signature.result], argNames(signature)));
      return numeric(fn, signature);
    },
    pointer(address, signature) {
      const name = `${PREFIX}_${prototypes++}`;
      const prototype = koffi.proto(name, RESULTS[signature.result], argNames(signature));
      return numeric(koffi.decode(BigInt(address), prototype), signature);
    },
    view: (address, length) => koffi.view(BigInt(address), length),
    detach,
  };
}

/**
 * V8 refuses to transfer the external ArrayBuffers of Node-API (they are marked untransferable), and Node 20 has no
 * ArrayBuffer.prototype.transfer; its own detach intrinsic is there in every V8.
 */
export function createV8Detach(setFlag: (flag: string) => void): (buffer: ArrayBuffer) => boolean {
  setFlag("--allow-natives-syntax");
  try {
    const intrinsic = new Function("buffer", "%ArrayBufferDetach(buffer)") as (buffer: ArrayBuffer) => void;
    intrinsic(new ArrayBuffer(1)); // compiled while the syntax is allowed
    return (buffer) => {
      intrinsic(buffer);
      return buffer.byteLength === 0;
    };
  } finally {
    setFlag("--no-allow-natives-syntax");
  }
}

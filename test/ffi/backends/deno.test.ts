/** createDenoBackend() over a fake Deno namespace. */
import { describe, expect, test } from "bun:test";
import { createDenoBackend, type DenoFfi } from "../../../ffi/backends/deno.ts";

function fake(result: number | bigint): { readonly deno: DenoFfi; readonly asked: unknown[] } {
  const asked: unknown[] = [];
  class FnPointer {
    constructor(pointer: unknown, definition: unknown) {
      asked.push([pointer, definition]);
    }
    call(...args: unknown[]): unknown {
      asked.push(args);
      return result;
    }
  }
  const deno: DenoFfi = {
    dlopen(name, symbols) {
      asked.push([name, symbols]);
      return { symbols: Object.fromEntries(Object.keys(symbols).map((key) => [key, () => result])) };
    },
    UnsafeFnPointer: FnPointer,
    UnsafePointer: { create: (address) => ({ address }) },
    UnsafePointerView: {
      getArrayBuffer(pointer, length) {
        asked.push(pointer);
        return new ArrayBuffer(length);
      },
    },
  };
  return { deno, asked };
}

describe("createDenoBackend()", () => {
  test("translates a row of the table and calls through", () => {
    const { deno, asked } = fake(-11);
    const call = createDenoBackend(deno).pointer(4096, {
      args: ["i32", "view", "address", "u32", "i64"],
      result: "i32",
    });
    expect(call(1, null, 8192, 3, 4)).toBe(-11);
    const definition = { parameters: ["i32", "buffer", "usize", "u32", "i64"], result: "i32" };
    expect(asked).toEqual([
      [{ address: 4096n }, definition],
      [1, null, 8192, 3, 4],
    ]);
  });

  test("narrows 64-bit results to numbers, of library calls too", () => {
    const { deno, asked } = fake(-1n);
    const backend = createDenoBackend(deno);
    expect(backend.library("mmap", { args: ["address"], result: "i64" })(0)).toBe(-1);
    expect(backend.pointer(1, { args: [], result: "i64" })()).toBe(-1);
    expect(asked[0]).toEqual(["libc.so.6", { mmap: { parameters: ["usize"], result: "i64" } }]);
  });

  test("views memory at an address", () => {
    const { deno, asked } = fake(0);
    expect(createDenoBackend(deno).view(65536, 64).byteLength).toBe(64);
    expect(asked).toEqual([{ address: 65536n }]);
  });
});

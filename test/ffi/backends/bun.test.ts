/** createBunBackend() over a fake bun:ffi: what it asks for, and what it makes of the answers. */
import { describe, expect, test } from "bun:test";
import { type BunFfi, createBunBackend } from "../../../ffi/backends/bun.ts";

function fake(answers: { readonly result?: number | bigint; readonly refuse?: readonly string[] }): {
  readonly ffi: BunFfi;
  readonly asked: unknown[];
} {
  const asked: unknown[] = [];
  const fn = (...args: unknown[]): unknown => {
    asked.push(args);
    return answers.result;
  };
  const ffi: BunFfi = {
    dlopen(name, symbols) {
      asked.push([name, symbols]);
      if (answers.refuse?.includes(name)) throw new Error(`no ${name}`);
      return { symbols: Object.fromEntries(Object.keys(symbols).map((key) => [key, fn])) };
    },
    CFunction(definition) {
      asked.push(definition);
      return fn;
    },
    toArrayBuffer: (address, offset, length) => {
      asked.push([address, offset, length]);
      return new ArrayBuffer(length);
    },
  };
  return { ffi, asked };
}

describe("createBunBackend()", () => {
  test("translates a row of the table and calls through", () => {
    const { ffi, asked } = fake({ result: -2 });
    const call = createBunBackend(ffi).pointer(4096, { args: ["i32", "view", "address", "u32", "i64"], result: "i32" });
    expect(call(1, null, 8192, 3, 4)).toBe(-2);
    expect(asked).toEqual([
      { ptr: 4096, args: ["i32", "ptr", "u64", "u32", "i64"], returns: "i32" },
      [1, null, 8192, 3, 4],
    ]);
  });

  test("narrows a 64-bit result that came as BigInt", () => {
    const { ffi } = fake({ result: 0x7f00_1234_5000n });
    expect(createBunBackend(ffi).pointer(4096, { args: [], result: "i64" })()).toBe(0x7f00_1234_5000);
  });

  test("tries the next C library when one is absent", () => {
    const { ffi, asked } = fake({ refuse: ["libc.so.6"], result: 1 });
    expect(createBunBackend(ffi).library("mmap", { args: ["i32"], result: "i32" })(5)).toBe(1);
    const wanted = { mmap: { args: ["i32"], returns: "i32" } };
    expect(asked).toEqual([["libc.so.6", wanted], ["libc.so", wanted], [5]]);
  });

  test("says which C libraries it tried when there is none, with the last reason as cause", () => {
    const refuse = ["libc.so.6", "libc.so", "libc.musl-x86_64.so.1", "libc.musl-aarch64.so.1"];
    const bind = (): unknown => createBunBackend(fake({ refuse }).ffi).library("mmap", { args: [], result: "i32" });
    expect(bind).toThrow(`Cannot open the C library, tried ${refuse.join(", ")}`);
  });

  test("views memory without an offset, and detaches it", () => {
    const { ffi, asked } = fake({});
    const backend = createBunBackend(ffi);
    const buffer = backend.view(65536, 128);
    const bytes = new Uint8Array(buffer);
    expect([asked[0], bytes.length]).toEqual([[65536, 0, 128], 128]);
    expect(backend.detach(buffer)).toBe(true);
    expect(bytes.length).toBe(0);
  });
});

/** createKoffiBackend() over a fake koffi, and the two ways of detaching. */
import { describe, expect, test } from "bun:test";
import { createKoffiBackend, createV8Detach, type Koffi } from "../../../ffi/backends/koffi.ts";

function fake(result: number | bigint): { readonly koffi: Koffi; readonly asked: unknown[] } {
  const asked: unknown[] = [];
  const fn = (...args: unknown[]): unknown => {
    asked.push(args);
    return result;
  };
  const koffi: Koffi = {
    load: (name) => ({
      func(symbol, type, args) {
        asked.push([name, symbol, type, args]);
        return fn;
      },
    }),
    proto(name, type, args) {
      asked.push([name, type, args]);
      return { name };
    },
    decode(pointer, type) {
      asked.push([pointer, type]);
      return fn;
    },
    view(pointer, length) {
      asked.push(pointer);
      return new ArrayBuffer(length);
    },
  };
  return { koffi, asked };
}

describe("createKoffiBackend()", () => {
  test("declares a prototype, decodes the pointer with it and calls through", () => {
    const { koffi, asked } = fake(7);
    const call = createKoffiBackend(koffi).pointer(4096, {
      args: ["i32", "view", "address", "u32", "i64"],
      result: "i32",
    });
    expect(call(1, null, 8192, 3, 4)).toBe(7);
    const [prototype, decoded, args] = asked as [[string, string, string[]], [bigint, { name: string }], number[]];
    expect(prototype.slice(1)).toEqual(["int32_t", ["int32_t", "void *", "uint64_t", "uint32_t", "int64_t"]]);
    expect(decoded).toEqual([4096n, { name: prototype[0] }]);
    expect(args).toEqual([1, null, 8192, 3, 4] as unknown as number[]);
  });

  test("never gives two prototypes one name", () => {
    const { koffi, asked } = fake(0);
    const backends = [createKoffiBackend(koffi), createKoffiBackend(koffi)];
    for (const backend of backends)
      for (let index = 0; index < 3; index++) backend.pointer(1, { args: [], result: "i32" });
    const names = asked.filter((_, index) => index % 2 === 0).map((entry) => (entry as string[])[0]);
    expect(new Set(names).size).toBe(6);
  });

  test("binds library functions and narrows 64-bit results", () => {
    const { koffi, asked } = fake(4096n);
    expect(createKoffiBackend(koffi).library("mmap", { args: ["i64"], result: "i64" })(1)).toBe(4096);
    expect(asked[0]).toEqual(["libc.so.6", "mmap", "int64_t", ["int64_t"]]);
  });

  test("detaches by transfer unless it is given a better way", () => {
    const buffer = new ArrayBuffer(8);
    expect(createKoffiBackend(fake(0).koffi).detach(buffer)).toBe(true);
    expect(buffer.byteLength).toBe(0);
    expect(createKoffiBackend(fake(0).koffi, () => false).detach(new ArrayBuffer(8))).toBe(false);
  });
});

describe("createV8Detach()", () => {
  test("allows the natives syntax only while it compiles the intrinsic", () => {
    const flags: string[] = [];
    // This runtime is no V8, so compiling fails; the flag must be taken back all the same.
    expect(() => createV8Detach((flag) => flags.push(flag))).toThrow(SyntaxError);
    expect(flags).toEqual(["--allow-natives-syntax", "--no-allow-natives-syntax"]);
  });
});

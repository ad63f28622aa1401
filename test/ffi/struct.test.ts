/** defineStruct(): layout by the C rules, and values that come back as they were written. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { defineStruct, type Struct } from "../../ffi/struct.ts";

const MIXED: Struct<{ a: "u8"; b: "u32"; c: "u16"; d: "u64"; e: { bytes: 3 }; f: "size"; g: "i32"; h: "i64" }> =
  defineStruct("mixed", { a: "u8", b: "u32", c: "u16", d: "u64", e: { bytes: 3 }, f: "size", g: "i32", h: "i64" });

describe("defineStruct()", () => {
  test("aligns every field to its size and the whole to the widest", () => {
    expect(MIXED.offsets).toEqual({ a: 0, b: 4, c: 8, d: 16, e: 24, f: 32, g: 40, h: 48 });
    expect(MIXED.size).toBe(56);
    expect(defineStruct("tail", { a: "u64", b: "u8" }).size).toBe(16);
  });

  test("leaves no padding when packed", () => {
    const packed = defineStruct("packed", { a: "u8", b: "u64", c: "u16" }, { packed: true });
    expect([packed.offsets, packed.size]).toEqual([{ a: 0, b: 1, c: 9 }, 11]);
  });

  test("reads back what it wrote, at any place", () => {
    const values = fc.record({
      a: fc.integer({ min: 0, max: 255 }),
      b: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
      c: fc.integer({ min: 0, max: 65535 }),
      d: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
      e: fc.uint8Array({ minLength: 3, maxLength: 3 }),
      f: fc.nat({ max: Number.MAX_SAFE_INTEGER }),
      g: fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
      h: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
    });
    fc.assert(
      fc.property(values, fc.nat({ max: 40 }), (written, at) => {
        const data = new DataView(new ArrayBuffer(100));
        MIXED.write(data, written, at);
        expect(MIXED.read(data, at)).toEqual(written);
      }),
    );
  });

  test("writes only the fields it is given", () => {
    const data = new DataView(new Uint8Array(MIXED.size).fill(0xff).buffer);
    MIXED.write(data, { c: 0 });
    const { a, b, c } = MIXED.read(data);
    expect([a, b, c]).toEqual([255, 2 ** 32 - 1, 0]);
  });
});

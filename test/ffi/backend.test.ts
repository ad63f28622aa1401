/** openFirst() and detachByTransfer(): what every backend shares. */
import { describe, expect, test } from "bun:test";
import { detachByTransfer, LIBC_NAMES, openFirst } from "../../ffi/backend.ts";

describe("openFirst()", () => {
  test("stops at the first library that opens", () => {
    const tried: string[] = [];
    const opened = openFirst((name) => {
      tried.push(name);
      if (tried.length < 2) throw new Error("absent");
      return name;
    });
    expect([opened, tried]).toEqual([LIBC_NAMES[1] ?? "", LIBC_NAMES.slice(0, 2) as string[]]);
  });
});

describe("detachByTransfer()", () => {
  test("empties every view and says so", () => {
    const words = new Int32Array(new ArrayBuffer(64));
    expect(detachByTransfer(words.buffer)).toBe(true);
    expect(words.length).toBe(0);
  });

  test("answers false for a buffer that is already gone", () => {
    const buffer = new ArrayBuffer(8);
    structuredClone(buffer, { transfer: [buffer] });
    expect(detachByTransfer(buffer)).toBe(false);
  });
});

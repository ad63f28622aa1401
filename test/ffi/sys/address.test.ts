/** Socket addresses: bytes and back. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { constants, inetAddress, readInetAddress, readUnixAddress, unixAddress } from "../../../ffi/mod.ts";

const { AF_INET, AF_INET6 } = constants;

describe("unixAddress()", () => {
  test("ends a path with a NUL and leaves an abstract name as long as it is", () => {
    expect([...unixAddress("/a")]).toEqual([1, 0, 0x2f, 0x61, 0]);
    expect([...unixAddress("@a")]).toEqual([1, 0, 0, 0x61]);
  });

  test("takes 107 bytes and refuses 108, counted in UTF-8", () => {
    expect(unixAddress("x".repeat(107)).length).toBe(110);
    expect(() => unixAddress("x".repeat(108))).toThrow('Cannot use socket path "xxx');
    expect(() => unixAddress("ä".repeat(54))).toThrow("it is 108 bytes long, 107 is the most");
  });

  test("is read back by readUnixAddress()", () => {
    const name = fc.string({ minLength: 1, maxLength: 50 }).filter((text) => !/[\0@]/.test(text));
    fc.assert(
      fc.property(name, fc.constantFrom("", "/", "@"), (text, prefix) => {
        fc.pre(new TextEncoder().encode(text).length < 100);
        expect(readUnixAddress(unixAddress(prefix + text))).toBe(prefix + text);
      }),
    );
  });
});

describe("readUnixAddress()", () => {
  test("tells an unnamed socket from one that is no Unix socket", () => {
    expect(readUnixAddress(Uint8Array.of(1, 0))).toBe("");
    expect(readUnixAddress(Uint8Array.of(2, 0, 0, 0))).toBeUndefined();
    expect(readUnixAddress(new Uint8Array(0))).toBeUndefined();
  });
});

describe("inetAddress()", () => {
  test("is read back for both families", () => {
    const host = (length: number): fc.Arbitrary<Uint8Array> => fc.uint8Array({ minLength: length, maxLength: length });
    const port = fc.integer({ min: 0, max: 65535 });
    const address = fc.oneof(
      fc.record({ family: fc.constant<2>(AF_INET), host: host(4), port }),
      fc.record({ family: fc.constant<10>(AF_INET6), host: host(16), port }),
    );
    fc.assert(fc.property(address, (written) => expect(readInetAddress(inetAddress(written))).toEqual(written)));
  });

  test("has the port in network order", () => {
    const bytes = inetAddress({ family: AF_INET, host: Uint8Array.of(127, 0, 0, 1), port: 0x1234 });
    expect([...bytes]).toEqual([2, 0, 0x12, 0x34, 127, 0, 0, 1, ...new Array<number>(8).fill(0)]);
  });

  test("too few bytes are no address", () => {
    expect(readInetAddress(Uint8Array.of(2, 0, 0, 1))).toBeUndefined();
    expect(readInetAddress(Uint8Array.of(10, 0, 0, 1, 0, 0, 0, 0))).toBeUndefined();
  });
});

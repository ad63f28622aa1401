import { expect, test } from "bun:test";
import fc from "fast-check";
import { formatHost, isUnspecified, loopbackFor, mapHost, parseHost, unmapHost } from "../../../lib/wrap/host.ts";

const address = fc.oneof(
  fc.uint8Array({ minLength: 4, maxLength: 4 }),
  fc.uint8Array({ minLength: 16, maxLength: 16 }),
  // Runs of zeroes are what the text form is about.
  fc.array(fc.constantFrom(0, 0, 0, 1), { minLength: 16, maxLength: 16 }).map((bytes) => Uint8Array.from(bytes)),
);

test("parseHost() reads back every address that formatHost() writes", () => {
  fc.assert(fc.property(address, (host) => expect(parseHost(formatHost(host))).toEqual(Uint8Array.from(host))));
});

test("formatHost() shortens the longest run of zeroes, the first of equals (RFC 5952)", () => {
  const texts = ["::", "::1", "1::", "fe80::1:0:0:1", "2001:db8::1:0:0:1", "1:0:2:3:4:5:6:7", "::ffff:7f00:1"];
  for (const text of texts) expect(formatHost(parseHost(text) ?? new Uint8Array())).toBe(text);
});

test("parseHost() refuses what is no address", () => {
  for (const text of ["", "1.2.3", "1.2.3.256", "1.2.3.4.5", ":::", "1::2::3", "g::", "1:2:3:4:5:6:7", "12345::"]) {
    expect(parseHost(text)).toBeUndefined();
  }
});

test("unmapHost() undoes mapHost() and leaves IPv6 alone", () => {
  const v4 = Uint8Array.of(127, 0, 0, 1);
  expect(formatHost(mapHost(v4, true))).toBe("::ffff:7f00:1");
  expect(unmapHost(mapHost(v4, true))).toEqual(v4);
  expect(mapHost(v4, false)).toEqual(v4);
  const v6 = parseHost("2001:db8::1") ?? new Uint8Array();
  expect(unmapHost(v6)).toEqual(v6);
});

test("loopbackFor() is what connect() makes of an unspecified address", () => {
  expect(isUnspecified(Uint8Array.of(0, 0, 0, 0))).toBe(true);
  expect(formatHost(loopbackFor(new Uint8Array(4)))).toBe("127.0.0.1");
  expect(formatHost(loopbackFor(new Uint8Array(16)))).toBe("::1");
});

import { expect, test } from "bun:test";
import { formatHost, isUnspecified, loopbackFor, mapHost, parseHost, unmapHost } from "../../../lib/wrap/host.ts";

test("unmapHost() undoes mapHost() and leaves IPv6 alone", () => {
  const v4 = Uint8Array.of(127, 0, 0, 1);
  expect(formatHost(mapHost(v4, true))).toBe("::ffff:127.0.0.1");
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

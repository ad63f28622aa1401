import { expect, test } from "bun:test";
import fc from "fast-check";
import { formatHost, hostPort, parseHost, parseHostPort, plainAddress } from "../../../lib/util/ip-address.ts";

const address = fc.oneof(
  fc.uint8Array({ minLength: 4, maxLength: 4 }),
  fc.uint8Array({ minLength: 16, maxLength: 16 }),
  // Runs of zeroes are what the text form is about.
  fc.array(fc.constantFrom(0, 0, 0, 1), { minLength: 16, maxLength: 16 }).map((bytes) => Uint8Array.from(bytes)),
);

test("parseHost() reads back every address that formatHost() writes", () => {
  fc.assert(fc.property(address, (host) => expect(parseHost(formatHost(host))).toEqual(Uint8Array.from(host))));
});

test("formatHost() shortens the longest run of zeroes, the first of equals, and writes a mapped address with dots (RFC 5952)", () => {
  const texts = ["::", "::1", "1::", "fe80::1:0:0:1", "2001:db8::1:0:0:1", "1:0:2:3:4:5:6:7", "::ffff:127.0.0.1"];
  texts.push("::ffff:0.0.0.0", "::fffe:7f00:1", "::1:ffff:7f00:1");
  for (const text of texts) expect(formatHost(parseHost(text) ?? new Uint8Array())).toBe(text);
});

test("parseHost() refuses what is no address", () => {
  for (const text of ["", "1.2.3", "1.2.3.256", "1.2.3.4.5", ":::", "1::2::3", "g::", "1:2:3:4:5:6:7", "12345::"]) {
    expect(parseHost(text)).toBeUndefined();
  }
});

test("plainAddress() writes an address as formatHost() does, and leaves alone what is none", () => {
  for (const [text, plain] of [
    ["0:0:0:0:0:0:0:1", "::1"],
    ["0::0", "::"],
    ["2001:DB8::0A", "2001:db8::a"],
    ["::ffff:7f00:1", "::ffff:127.0.0.1"],
    ["fe80:0::1%eth0", "fe80::1%eth0"],
    ["127.0.0.001", "127.0.0.1"],
    ["127.1", "127.1"],
    ["::g%x", "::g%x"],
    ["", ""],
  ] as const)
    expect(plainAddress(text)).toBe(plain);
});

test("parseHostPort() reads what hostPort() writes, and nothing else", () => {
  fc.assert(
    fc.property(address, fc.nat(65535), (host, port) =>
      expect(parseHostPort(hostPort(formatHost(host), port))).toEqual({ host: Uint8Array.from(host), port }),
    ),
  );
  for (const text of [
    "",
    ":80",
    "::1:80",
    "[::1]",
    "[127.0.0.1]:80",
    "127.0.0.1:65536",
    "127.0.0.1:",
    "x:80",
    "[fe80::1%lo]:1",
  ])
    expect(parseHostPort(text)).toBeUndefined();
});

/** Hosts from the beginnings of HTTP requests and TLS hellos. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { peekHttpHost } from "../../../lib/util/http-host.ts";
import { peekTlsSni } from "../../../lib/util/tls-sni.ts";

function bytes(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

const REQUEST = "GET /a?b=c HTTP/1.1\r\nAccept: */*\r\nHOST: \tExample.org:8080 \r\n\r\n";

test("peekHttpHost() finds the host, and every shorter beginning wants more", () => {
  expect(peekHttpHost(bytes(REQUEST))).toEqual({ kind: "host", host: "example.org" });
  const end = REQUEST.indexOf(" \r\n\r\n") + 3;
  for (let length = 0; length < end; length++) expect(peekHttpHost(bytes(REQUEST.slice(0, length))).kind).toBe("more");
});

test("peekHttpHost() takes addresses, and refuses what is no request or names no host", () => {
  const host = (value: string) => peekHttpHost(bytes(`GET / HTTP/1.0\r\nHost: ${value}\r\n`));
  expect(host("127.0.0.1")).toEqual({ kind: "host", host: "127.0.0.1" });
  expect(host("[::1]:80")).toEqual({ kind: "host", host: "::1" });
  expect(host("example.org.")).toEqual({ kind: "host", host: "example.org" });
  for (const wrong of ["", "a/b", "a b", "[x]", `${"a".repeat(254)}`]) expect(host(wrong).kind).toBe("none");
  for (const wrong of [
    "\u0016\u0003\u0001",
    "GET / HTTP/1.1\r\n\r\n",
    "GET / HTTP/2\r\n",
    "GET  / HTTP/1.1\r\n",
    "HELLO\r\n",
    "\r\n",
  ])
    expect(peekHttpHost(bytes(wrong)).kind).toBe("none");
});

/** A hello with extensions: one that is not known, then the server name. */
function hello(name: string | undefined): number[] {
  const u16 = (value: number): number[] => [value >> 8, value & 0xff];
  const vector = (body: number[]): number[] => [...u16(body.length), ...body];
  const sni = name === undefined ? [] : [...u16(0), ...vector(vector([0, ...vector([...bytes(name)])]))];
  const extensions = vector([...u16(0x2b), ...vector([2, 3, 4]), ...sni]);
  const body = [
    3,
    3,
    ...Array.from({ length: 32 }, (_, index) => index),
    4,
    1,
    2,
    3,
    4,
    ...vector([0x13, 1]),
    1,
    0,
    ...extensions,
  ];
  return [1, 0, ...u16(body.length), ...body];
}

function records(handshake: readonly number[], size: number): Uint8Array {
  const out: number[] = [];
  for (let at = 0; at < handshake.length; at += size) {
    const part = handshake.slice(at, at + size);
    out.push(22, 3, 1, part.length >> 8, part.length & 0xff, ...part);
  }
  return new Uint8Array(out);
}

test("peekTlsSni() finds the server name however the hello is cut into records, and a shorter beginning wants more", () => {
  for (const size of [1, 7, 1000]) {
    const whole = records(hello("One.Test"), size);
    expect(peekTlsSni(whole)).toEqual({ kind: "host", host: "one.test" });
    for (let length = 0; length < whole.length; length++)
      expect(peekTlsSni(whole.subarray(0, length)).kind).toBe("more");
  }
});

test("peekTlsSni() refuses what is no hello, or one without a name", () => {
  expect(peekTlsSni(records(hello(undefined), 1000)).kind).toBe("none");
  expect(peekTlsSni(bytes("GET / HTTP/1.1\r\n")).kind).toBe("none");
  expect(peekTlsSni(records([2, 0, 0, 0], 10)).kind).toBe("none");
  expect(peekTlsSni(new Uint8Array([22, 3, 1, 0xff, 0xff])).kind).toBe("none");
});

test("no bytes make either of them throw, and a mutated hello names a host that could be one", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(), fc.nat(255), (noise, at, value) => {
      const mutated = records(hello("one.test"), 60);
      mutated[at % mutated.length] = value;
      for (const input of [
        noise,
        mutated,
        bytes(REQUEST).map((byte, index) => (index === at % REQUEST.length ? value : byte)),
      ]) {
        for (const found of [peekHttpHost(input), peekTlsSni(input)])
          if (found.kind === "host") expect(found.host).toMatch(/^[a-z0-9._:-]+$/);
      }
    }),
    { numRuns: 2000 },
  );
});

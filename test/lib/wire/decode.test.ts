/** WireReader against a peer that lies. Every row is a message by hand, in 32-bit words. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { WireReader } from "../../../lib/wire/decode.ts";
import type { ArgKind, FaultReason, Signature } from "../../../lib/wire/types.ts";

/** Object 2 knows opcode 0 with `kinds`; there is nothing else. */
function lookupOf(
  ...kinds: ArgKind[]
): (object: number, opcode: number) => Signature | "unknown-object" | "unknown-opcode" {
  return (object, opcode) => {
    if (object !== 2) return "unknown-object";
    return opcode === 0 ? kinds.map((kind) => ({ kind })) : "unknown-opcode";
  };
}

function words(...values: (number | string)[]): Uint8Array {
  const parts = values.map((value) => {
    if (typeof value === "string") return Buffer.from(value, "latin1");
    const word = Buffer.alloc(4);
    word.writeUInt32LE(value);
    return word;
  });
  return Buffer.concat(parts);
}

const size = (bytes: number, opcode = 0): number => bytes * 0x10000 + opcode;

const MALFORMED: [FaultReason, string, Uint8Array, ArgKind[]][] = [
  ["size-too-small", "size 0", words(2, size(0)), []],
  ["size-too-small", "size 4", words(2, size(4)), []],
  ["size-too-small", "size 7", words(2, size(7)), []],
  ["size-unaligned", "size 9", words(2, size(9)), []],
  ["size-unaligned", "size 14", words(2, size(14)), []],
  ["size-too-large", "size 4100", words(2, size(4100)), ["array"]],
  ["size-too-large", "size 65535", words(2, size(65535)), ["array"]],
  ["unknown-object", "object 3", words(3, size(8)), []],
  ["unknown-object", "object 0", words(0, size(8)), []],
  ["unknown-object", "object 0xffffffff", words(0xffffffff, size(8)), []],
  ["unknown-opcode", "opcode 1", words(2, size(8, 1)), []],
  ["unknown-opcode", "opcode 65535", words(2, size(8, 65535)), []],
  ["truncated-argument", "no room for a uint", words(2, size(8)), ["uint"]],
  ["truncated-argument", "no room for the second uint", words(2, size(12), 1), ["uint", "uint"]],
  ["truncated-argument", "no room for a string's length", words(2, size(8)), ["string"]],
  ["truncated-argument", "string longer than the message", words(2, size(16), 5, "abcd"), ["string"]],
  ["truncated-argument", "string of 4 GiB", words(2, size(16), 0xffffffff, "abc\0"), ["string"]],
  ["truncated-argument", "string whose padding wraps to 0", words(2, size(16), 0xfffffffd, "abc\0"), ["string"]],
  ["truncated-argument", "string of 2 GiB", words(2, size(16), 0x80000000, "abc\0"), ["string"]],
  ["truncated-argument", "array longer than the message", words(2, size(16), 8, 0), ["array"]],
  ["truncated-argument", "array of 4 GiB", words(2, size(12), 0xffffffff), ["array"]],
  ["truncated-argument", "untyped new_id without an id", words(2, size(20), 2, "a\0\0\0", 1), ["untyped_new_id"]],
  ["unterminated-string", "no NUL", words(2, size(16), 4, "abcd"), ["string"]],
  ["unterminated-string", "a NUL only in the padding", words(2, size(16), 3, "abc\0"), ["string"]],
  ["nul-in-string", "a NUL inside", words(2, size(16), 4, "a\0b\0"), ["string"]],
  ["nul-in-string", "two NULs at the end", words(2, size(16), 4, "ab\0\0"), ["string"]],
  ["bad-utf8", "0xff", words(2, size(16), 4, "\xffab\0"), ["string"]],
  ["bad-utf8", "half a character", words(2, size(16), 4, "ab\xc3\0"), ["string"]],
  ["bad-utf8", "an encoded surrogate", words(2, size(16), 4, "\xed\xa0\x80\0"), ["string"]],
  ["bad-utf8", "an overlong NUL", words(2, size(16), 3, "\xc0\x80\0\0"), ["string"]],
  ["null-not-allowed", "a null string", words(2, size(12), 0), ["string"]],
  ["null-not-allowed", "a null object", words(2, size(12), 0), ["object"]],
  ["null-not-allowed", "new_id 0", words(2, size(12), 0), ["new_id"]],
  ["null-not-allowed", "untyped new_id 0", words(2, size(24), 2, "a\0\0\0", 1, 0), ["untyped_new_id"]],
  ["missing-fd", "no descriptor", words(2, size(8)), ["fd"]],
  ["trailing-bytes", "a word too many", words(2, size(12), 0), []],
  ["trailing-bytes", "a word after a string", words(2, size(20), 2, "a\0\0\0", 0), ["string"]],
];

test.each(MALFORMED)("WireReader reports %s for %s, and again for whatever follows", (reason, _what, bytes, kinds) => {
  const reader = new WireReader<number>();
  reader.push(bytes, []);
  const fault = reader.next(lookupOf(...kinds));
  expect(fault).toMatchObject({ kind: "fault", reason });
  reader.push(words(2, size(8)), []);
  expect(reader.next(lookupOf())).toBe(fault as never);
});

test("WireReader reports a bad header before the body has come", () => {
  for (const bytes of [words(2, size(4100)), words(3, size(100)), words(2, size(100, 9))]) {
    const reader = new WireReader<number>();
    reader.push(bytes, []);
    expect(reader.next(lookupOf("array"))?.kind).toBe("fault");
  }
});

test("WireReader ignores what is in the padding", () => {
  const reader = new WireReader<number>();
  reader.push(words(2, size(16), 2, "a\0zz"), []);
  expect(reader.next(lookupOf("string"))).toMatchObject({ args: [{ kind: "string", value: "a" }] });
});

test("WireReader tells short strings apart, whatever came before them", () => {
  const reader = new WireReader<number>();
  const texts = ["ab.1", "cb.1", "ab.1", "ab\xc3\xa41", "ab.1"]; // of one length and one last character, where they are not longer
  const read = texts.map((text) => {
    const bytes = `${text}\0`.padEnd(8, "\0");
    reader.push(words(2, size(20), text.length + 1, bytes), []);
    const message = reader.next(lookupOf("string"));
    return message?.kind === "message" ? message.args[0] : message;
  });
  const expected = ["ab.1", "cb.1", "ab.1", "ab\u00e41", "ab.1"];
  expect(read).toEqual(expected.map((value) => ({ kind: "string" as const, value })));
});

test("WireReader gives back the descriptors of a message that turned out to be wrong", () => {
  const reader = new WireReader<number>();
  reader.push(words(2, size(8), 2, size(12), 0), [10, 11, 12]);
  expect(reader.next(lookupOf("fd"))?.kind).toBe("message");
  expect(reader.next(lookupOf("fd", "string"))).toMatchObject({ reason: "null-not-allowed" });
  expect(reader.drainFds()).toEqual([11, 12]);
  expect(reader.drainFds()).toEqual([]);
});

test("WireReader reports too many waiting descriptors, but not those of two messages", () => {
  const reader = new WireReader<number>();
  reader.push(
    words(2),
    Array.from({ length: 56 }, (_, index) => index),
  );
  expect(reader.next(lookupOf())).toBeUndefined();
  reader.push(new Uint8Array(0), [56]);
  expect(reader.next(lookupOf())).toMatchObject({ reason: "too-many-fds" });
  expect(reader.drainFds().length).toBe(57);
});

test("WireReader survives any bytes: it says something, uses no more than came, and loses no descriptor", () => {
  const kinds: ArgKind[] = ["int", "uint", "fixed", "string", "object", "new_id", "untyped_new_id", "array", "fd"];
  const header = fc.tuple(fc.constantFrom(2, 2, 2, 3), fc.integer({ min: 0, max: 12 }), fc.constantFrom(0, 0, 0, 1));
  const chunk = fc.oneof(
    fc.uint8Array({ maxLength: 64 }),
    header.map(([object, count, opcode]) => new Uint8Array(words(object, size(count * 4, opcode)))),
    fc.constant(new Uint8Array(words(2, "a\0\0\0"))),
  );
  const run = (chunks: Uint8Array[], signature: ArgKind[], fdCount: number): void => {
    const reader = new WireReader<number>();
    let taken = 0;
    reader.push(
      new Uint8Array(0),
      Array.from({ length: fdCount }, (_, index) => index),
    );
    for (const bytes of chunks) {
      reader.push(bytes, []);
      for (let next = reader.next(lookupOf(...signature)); next?.kind === "message"; ) {
        for (const { kind, value } of next.args) if (kind === "fd") expect(value).toBe(taken++);
        next = reader.next(lookupOf(...signature));
      }
    }
    expect(reader.drainFds()).toEqual(Array.from({ length: fdCount - taken }, (_, index) => taken + index));
  };
  const signatures = fc.array(fc.constantFrom(...kinds), { maxLength: 4 });
  fc.assert(fc.property(fc.array(chunk, { maxLength: 12 }), signatures, fc.nat(8), run), { numRuns: 500 });
});

test("a text that came before is known again, and what only looks like it is not", () => {
  const lookup = lookupOf("string");
  const read = (text: string, length = text.length): unknown => {
    const reader = new WireReader<never>();
    const padded = text.padEnd((text.length + 3) & ~3, "\0");
    reader.push(words(2, size(12 + padded.length), length, padded), []);
    const message = reader.next(lookup);
    return message?.kind === "message" ? message.args[0]?.value : message?.reason;
  };
  for (const text of ["", "a", "known", "k".repeat(64), "k".repeat(65)]) {
    expect(read(`${text}\0`)).toBe(text);
    expect(read(`${text}\0`)).toBe(text);
  }
  expect(read("knawn\0")).toBe("knawn");
  expect(read("known\0")).toBe("known");
  expect(read("k\0own\0")).toBe("nul-in-string");
  expect(read("known!")).toBe("unterminated-string");
  expect(read("known\0", 16)).toBe("truncated-argument");
});

/** encode and decode together: what goes in comes out, however the bytes are split. Descriptors are plain numbers. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import type { ObjectId } from "../../../lib/util/brand.ts";
import { WireReader } from "../../../lib/wire/decode.ts";
import { encode } from "../../../lib/wire/encode.ts";
import { type Arg, MAX_MESSAGE_BYTES, type RawMessage, type Signature } from "../../../lib/wire/types.ts";

const id = (min = 1): fc.Arbitrary<ObjectId> => fc.integer({ min, max: 0xffffffff }).map((value) => value as ObjectId);
const uint = fc.integer({ min: 0, max: 0xffffffff });
const int = fc.integer({ min: -0x80000000, max: 0x7fffffff });
const text = fc.string({ unit: "grapheme", maxLength: 40 }).map((value) => value.replaceAll("\0", ""));

const arg: fc.Arbitrary<Arg<number>> = fc.oneof(
  int.map((value) => ({ kind: "int" as const, value })),
  uint.map((value) => ({ kind: "uint" as const, value })),
  int.map((value) => ({ kind: "fixed" as const, value: value / 256 })),
  fc.option(text).map((value) => ({ kind: "string" as const, value })),
  fc.option(id()).map((value) => ({ kind: "object" as const, value })),
  id().map((value) => ({ kind: "new_id" as const, value })),
  fc.record({ kind: fc.constant("untyped_new_id" as const), interface: text, version: uint, value: id() }),
  fc.uint8Array({ maxLength: 40 }).map((value) => ({ kind: "array" as const, value })),
  uint.map((value) => ({ kind: "fd" as const, value })),
);

const message: fc.Arbitrary<RawMessage<number>> = fc.record({
  kind: fc.constant("message" as const),
  object: id(),
  opcode: fc.integer({ min: 0, max: 0xffff }),
  args: fc.array(arg, { maxLength: 8 }),
});

function signatureOf({ args }: RawMessage<number>): Signature {
  return args.map(({ kind }) => ({ kind, nullable: true }));
}

/** Reads all messages, of which the n-th has the n-th signature. */
function readAll(reader: WireReader<number>, signatures: readonly Signature[], into: RawMessage<number>[]): void {
  for (;;) {
    const signature = signatures[into.length];
    const next = reader.next(() => signature ?? "unknown-object");
    if (next === undefined) return;
    if (next.kind === "fault") throw new Error(`${next.reason}: ${next.detail}`);
    into.push(next);
  }
}

function bytesOf(messages: readonly RawMessage<number>[]): { bytes: Uint8Array; fds: number[] } {
  const parts = messages.map((item) => {
    const { bytes, fds } = encode(item);
    return { bytes: bytes.slice(), fds };
  });
  return { bytes: Buffer.concat(parts.map(({ bytes }) => bytes)), fds: parts.flatMap(({ fds }) => fds) };
}

test("decode(encode(x)) is x for any messages in pieces of any size", () => {
  fc.assert(
    fc.property(
      fc.array(message, { maxLength: 6 }),
      fc.infiniteStream(fc.integer({ min: 1, max: 50 })),
      (messages, sizes) => {
        const { bytes, fds } = bytesOf(messages);
        const reader = new WireReader<number>();
        const signatures = messages.map(signatureOf);
        const read: RawMessage<number>[] = [];
        reader.push(new Uint8Array(0), fds);
        for (let at = 0; at < bytes.length; ) {
          const end = at + (sizes.next().value ?? 1);
          reader.push(bytes.subarray(at, end), []);
          readAll(reader, signatures, read);
          at = end;
        }
        expect(read).toEqual(messages);
        expect(reader.waitingBytes).toBe(0);
        expect(reader.drainFds()).toEqual([]);
      },
    ),
    { numRuns: 200 },
  );
});

test("decode(encode(x)) is x at every single split of a message with every kind of argument", () => {
  const whole: RawMessage<number> = {
    kind: "message",
    object: 7 as ObjectId,
    opcode: 3,
    args: [
      { kind: "int", value: -1 },
      { kind: "fixed", value: -1.5 },
      { kind: "string", value: "\ufeffgrün" },
      { kind: "string", value: "" },
      { kind: "string", value: null },
      { kind: "object", value: null },
      { kind: "fd", value: 11 },
      { kind: "untyped_new_id", interface: "wl_x", version: 2, value: 0xffffffff as ObjectId },
      { kind: "array", value: new Uint8Array([1, 2, 3, 4, 5]) },
      { kind: "fd", value: 12 },
    ],
  };
  const { bytes, fds } = encode(whole);
  for (let split = 0; split <= bytes.length; split += 1) {
    const reader = new WireReader<number>();
    const lookup = (): Signature => signatureOf(whole);
    reader.push(bytes.subarray(0, split), fds);
    const early = reader.next(lookup);
    expect(early).toEqual(split < bytes.length ? undefined : whole);
    reader.push(bytes.subarray(split), []);
    if (early === undefined) expect(reader.next(lookup)).toEqual(whole);
    expect(reader.next(lookup)).toBeUndefined();
  }
});

test("a reader copies what it was given, and what it gives is not overwritten", () => {
  const reader = new WireReader<number>();
  const array: RawMessage<number> = {
    kind: "message",
    object: 1 as ObjectId,
    opcode: 0,
    args: [{ kind: "array", value: new Uint8Array([9, 9, 9, 9]) }],
  };
  const { bytes } = encode(array);
  const lent = bytes.slice();
  reader.push(lent, []);
  lent.fill(0);
  const first = reader.next(() => [{ kind: "array" }]);
  reader.push(new Uint8Array(bytes.length), []);
  expect(first).toEqual(array);
});

test("a reader takes a long backlog in order and keeps nothing of it", () => {
  const reader = new WireReader<number>();
  const total = 20_000;
  for (let value = 0; value < total; value += 1) {
    const { bytes, fds } = encode({
      kind: "message",
      object: 1 as ObjectId,
      opcode: 0,
      args: [
        { kind: "uint", value },
        { kind: "fd", value },
      ],
    });
    reader.push(bytes, fds);
  }
  for (let value = 0; value < total; value += 1) {
    const next = reader.next(() => [{ kind: "uint" }, { kind: "fd" }]);
    if (next?.kind !== "message") throw new Error(`Message ${value} is ${next?.reason ?? "missing"}`);
    if (next.args[0]?.value !== value || next.args[1]?.value !== value)
      throw new Error(`Message ${value} is another one`);
  }
  expect(reader.next(() => [])).toBeUndefined();
  expect(reader.waitingBytes).toBe(0);
});

const raw = (...args: Arg<number>[]): RawMessage<number> => ({
  kind: "message",
  object: 1 as ObjectId,
  opcode: 0,
  args,
});

test("encode() fills a message to the last byte and refuses one byte more", () => {
  const room = MAX_MESSAGE_BYTES - 8 - 4 - 1; // header, length, NUL
  expect(encode(raw({ kind: "string", value: "x".repeat(room) })).bytes.length).toBe(MAX_MESSAGE_BYTES);
  expect(() => encode(raw({ kind: "string", value: "x".repeat(room + 1) }))).toThrow(RangeError);
  expect(() => encode(raw({ kind: "array", value: new Uint8Array(5000) }))).toThrow(RangeError);
});

test("encode() refuses values that the wire cannot carry", () => {
  const wrong: Arg<number>[] = [
    { kind: "uint", value: -1 },
    { kind: "uint", value: 0x1_0000_0000 },
    { kind: "uint", value: 1.5 },
    { kind: "uint", value: Number.NaN },
    { kind: "int", value: 0x8000_0000 },
    { kind: "int", value: -0x8000_0001 },
    { kind: "fixed", value: 0x80_0000 },
    { kind: "string", value: "a\0b" },
  ];
  for (const value of wrong) expect(() => encode(raw(value))).toThrow(RangeError);
  const fds = Array.from({ length: 29 }, (_, value): Arg<number> => ({ kind: "fd", value }));
  expect(() => encode(raw(...fds))).toThrow("28 is the most");
  expect(encode(raw(...fds.slice(1))).fds.length).toBe(28);
});

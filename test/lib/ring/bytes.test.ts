/** What is bytes, how many there are, and whether that can be relied on afterwards. */
import { afterEach, expect, test } from "bun:test";
import { runInNewContext } from "node:vm";
import { hasPlainLength, lengthOf } from "../../../lib/ring/bytes.ts";
import type { RingPair as Ring } from "./pair.ts";
import { twins } from "./twins.ts";

class Plain extends Uint8Array {}
class Telling extends Uint8Array {
  onLength: (() => void) | undefined;
  override get length(): number {
    const real = this.byteLength;
    this.onLength?.();
    return real;
  }
}
class Grandchild extends Telling {}

const open: Ring[] = [];

afterEach(() => {
  for (const { producer, consumer } of open.splice(0)) for (const end of [producer, consumer]) end.retire();
});

test("lengthOf() takes arrays of bytes of any realm and class that tell their length", () => {
  const foreign = runInNewContext("new Uint8Array(5)") as Uint8Array;
  expect(foreign instanceof Uint8Array).toBe(false);
  for (const bytes of [
    foreign,
    Buffer.alloc(5),
    new Plain(5),
    new Telling(5),
    new Uint8Array(new SharedArrayBuffer(5)),
  ]) {
    expect(lengthOf(bytes)).toBe(5);
  }
});

test("lengthOf() says what is needed, and what it was given", () => {
  expect(() => lengthOf("hello" as never)).toThrow('Cannot use "String" as bytes: a Uint8Array is needed');
  expect(() => lengthOf(new Int32Array(2) as never)).toThrow('Cannot use "Int32Array" as bytes');
  expect(() => lengthOf(undefined as never)).toThrow('Cannot use "Undefined" as bytes');
  const lying = Object.defineProperty(new Uint8Array(3), "length", { value: 300 });
  expect(() => lengthOf(lying)).toThrow('length is said to be "300": there are 3');
});

test("hasPlainLength() is true of every class without a length of its own", () => {
  for (const bytes of [new Uint8Array(1), Buffer.alloc(1), new Plain(1), new Plain(1), Buffer.alloc(1)]) {
    expect(hasPlainLength(bytes)).toBe(true);
  }
  const own = Object.defineProperty(new Uint8Array(1), "length", { value: 1 });
  for (const bytes of [own, new Telling(1), new Grandchild(1), new Telling(1), Object.setPrototypeOf(own, null)]) {
    expect(hasPlainLength(bytes)).toBe(false);
  }
});

// The machine code is for that processor alone.
test.skipIf(process.arch !== "x64")(
  "bytes with a length of their own are never read where they lay, and any others are",
  () => {
    const { rings, calls } = twins(4096, 0);
    open.push(...rings);
    const { producer, consumer } = rings[1];
    const take = (into: Uint8Array): number => {
      const length = consumer.receive(into);
      if (length >= 0 || consumer.next() < 0) return length;
      consumer.take(into);
      return into.length;
    };
    for (const [bytes, isLent] of [
      [new Plain(64), true],
      [Buffer.alloc(64), true],
      [new Grandchild(64), false],
    ] as const) {
      for (let time = 0; time < 3; time++) expect([producer.send(bytes, 0), take(bytes)]).toEqual([true, 64]);
      const before = calls();
      expect([producer.send(bytes, 0), take(bytes)]).toEqual([true, 64]);
      expect(calls() > before).toBe(isLent);
    }
    const bytes = new Telling(64);
    for (let time = 0; time < 5; time++) expect([producer.send(bytes, 0), take(bytes)]).toEqual([true, 64]);
    bytes.onLength = () => {
      bytes.onLength = undefined;
      structuredClone(bytes.buffer, { transfer: [bytes.buffer] });
    };
    expect(() => producer.send(bytes, 0)).toThrow(TypeError);
    expect(consumer.next()).toBe(-1);
  },
);

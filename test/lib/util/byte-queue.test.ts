import { expect, test } from "bun:test";
import fc from "fast-check";
import { ByteQueue } from "../../../lib/util/byte-queue.ts";

test("a queue gives back the bytes in order whatever the pushes and drops were", () => {
  const step = fc.oneof(fc.uint8Array({ maxLength: 9000 }), fc.nat(12000));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const queue = new ByteQueue();
      let model: number[] = [];
      for (const item of steps) {
        if (typeof item === "number") {
          const count = Math.min(item, queue.length);
          queue.drop(count);
          model = model.slice(count);
        } else {
          queue.push(item);
          model = model.concat([...item]);
        }
        expect(queue.length).toBe(model.length);
        expect(Buffer.compare(queue.peek(), Uint8Array.from(model))).toBe(0);
      }
    }),
    { numRuns: 50 },
  );
});

test("peek() returns at most what was asked for, and drop() of more than there is throws", () => {
  const queue = new ByteQueue();
  queue.push(new Uint8Array([1, 2, 3]));
  expect([...queue.peek(2)]).toEqual([1, 2]);
  expect(() => queue.drop(4)).toThrow(RangeError);
  queue.clear();
  expect(queue.length).toBe(0);
});

test("a view of what is at the front is of the buffer that there is now", () => {
  const queue = new ByteQueue();
  for (const [value, length] of [
    [1, 24],
    [2, 5000],
    [3, 24],
    [4, 24],
    [5, 100_000],
    [6, 24],
  ] as const) {
    const bytes = new Uint8Array(length).fill(value);
    queue.push(bytes);
    expect(Buffer.compare(queue.peek(), bytes)).toBe(0);
    queue.drop(length);
  }
});

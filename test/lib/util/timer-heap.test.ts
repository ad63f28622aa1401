import { expect, test } from "bun:test";
import fc from "fast-check";
import { type Timer, TimerHeap } from "../../../lib/util/timer-heap.ts";

test("timers are taken in the order of their due times, removed ones never", () => {
  fc.assert(
    fc.property(fc.array(fc.record({ due: fc.nat(50), remove: fc.boolean() }), { maxLength: 60 }), (items) => {
      const heap = new TimerHeap();
      const timers: Timer[] = items.map(({ due }) => heap.add(due, () => undefined));
      for (const [index, { remove }] of items.entries()) {
        const timer = timers[index];
        if (remove && timer !== undefined) heap.remove(timer);
      }
      const taken: number[] = [];
      for (let timer = heap.take(100); timer !== undefined; timer = heap.take(100)) {
        taken.push(timer.dueMs);
        heap.remove(timer);
      }
      const kept = items.filter(({ remove }) => !remove).map(({ due }) => due);
      expect(taken).toEqual(kept.sort((a, b) => a - b));
    }),
  );
});

test("take() leaves what is not due yet", () => {
  const heap = new TimerHeap();
  heap.add(10, () => undefined);
  expect(heap.take(9)).toBeUndefined();
  expect(heap.nextDueMs).toBe(10);
  expect(heap.take(10)?.dueMs).toBe(10);
  expect(heap.size).toBe(0);
});

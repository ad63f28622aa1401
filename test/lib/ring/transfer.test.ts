import { expect, test } from "bun:test";
import fc from "fast-check";
import { EMPTY, FINISHED, UNUSUAL } from "../../../lib/ring/consumer.ts";
import { COLD_BYTES, COLD_MESSAGES, FIRST, HEADER_BYTES, LAST, maxPayloadBytes } from "../../../lib/ring/layout.ts";
import { RingProducer } from "../../../lib/ring/producer.ts";
import { readSideStatistics } from "../../../lib/ring/statistics.ts";
import { receiveAll, ringPair } from "./pair.ts";

const CAPACITY = 4096;
const BEFORE_WRAP = 2 ** 32 - 2048;

function payload(length: number, seed: number): Uint8Array {
  return Uint8Array.from({ length }, (_, index) => (index * 31 + seed) & 0xff);
}

const size = fc.oneof(fc.integer({ min: 0, max: 80 }), fc.integer({ min: 0, max: maxPayloadBytes(CAPACITY) }));
const step = fc.record({
  sizes: fc.array(size, { minLength: 1, maxLength: 12 }),
  publishEvery: fc.integer({ min: 1, max: 5 }),
  take: fc.integer({ min: 0, max: 20 }),
});

test("a ring loses and repeats nothing at any size, batch and start, across the end of the ring and of 2^32", () => {
  const start = fc.constantFrom(0, 8, CAPACITY - 8, BEFORE_WRAP, 2 ** 31 - 1024, 2 ** 32 - 8);
  fc.assert(
    fc.property(start, fc.array(step, { minLength: 1, maxLength: 30 }), (position, steps) => {
      const { producer, consumer } = ringPair(CAPACITY, position | 0);
      const sent: Uint8Array[] = [];
      const received: Uint8Array[] = [];
      for (const { sizes, publishEvery, take } of steps) {
        for (const [index, length] of sizes.entries()) {
          const bytes = payload(length, sent.length);
          if (!producer.put(bytes, sent.length & 0xffff)) break;
          sent.push(bytes);
          if (index % publishEvery === 0) producer.publish();
        }
        producer.publish();
        for (let taken = 0; taken < take && consumer.next() >= 0; taken++) {
          expect(consumer.type).toBe(received.length & 0xffff);
          const into = new Uint8Array(consumer.length);
          consumer.take(into);
          received.push(into);
        }
      }
      received.push(...receiveAll(consumer));
      expect(received).toEqual(sent);
      expect(producer.violation ?? consumer.violation).toBeUndefined();
    }),
    { numRuns: 150 },
  );
});

test("positions wrap at 2^32 while the ring is full", () => {
  const { producer, consumer } = ringPair(CAPACITY, BEFORE_WRAP | 0);
  const bytes = payload(1016, 1); // a quarter of the ring with its header
  for (let round = 0; round < 4; round++) expect(producer.put(bytes, 0)).toBe(true);
  producer.publish();
  expect(producer.put(payload(0, 0), 0)).toBe(false);
  expect(receiveAll(consumer)).toEqual([bytes, bytes, bytes, bytes]);
  expect(producer.put(bytes, 0)).toBe(true);
});

test("put() is invisible until publish()", () => {
  const { producer, consumer } = ringPair(CAPACITY);
  producer.put(payload(5, 0), 0);
  expect(consumer.next()).toBe(EMPTY);
  producer.publish();
  expect(consumer.next()).toBe(5);
});

test("put() refuses a payload above half the ring and takes one that fills it exactly", () => {
  const { producer } = ringPair(CAPACITY);
  expect(() => producer.put(new Uint8Array(maxPayloadBytes(CAPACITY) + 1), 0)).toThrow(RangeError);
  expect(producer.put(new Uint8Array(maxPayloadBytes(CAPACITY)), 0)).toBe(true);
  expect(producer.put(new Uint8Array(maxPayloadBytes(CAPACITY)), 0)).toBe(true);
  expect(producer.put(new Uint8Array(0), 0)).toBe(false);
});

test("commit() sends what was reserved and filled, and a reservation given up leaves no trace", () => {
  const { producer, consumer, producerMemory } = ringPair(CAPACITY);
  producer.reserve(100, 1);
  const offset = producer.reserve(40, 2);
  producerMemory.bytes.set(payload(40, 9), offset);
  producer.commit(30);
  producer.publish();
  expect(receiveAll(consumer)).toEqual([payload(30, 9)]);
  expect(consumer.type).toBe(2);
  expect(() => producer.commit()).toThrow("nothing is reserved");
});

test("spans carry a stream of bytes across the end of the ring", () => {
  const { producer, consumer, producerMemory } = ringPair(CAPACITY);
  const sent: number[] = [];
  const received: number[] = [];
  for (let round = 0; round < 200; round++) {
    const offset = producer.reserveSpan();
    if (offset >= 0) {
      const count = Math.min(producer.spanLength, 1 + ((round * 397) % 900));
      const bytes = payload(count, round);
      producerMemory.bytes.set(bytes, offset);
      producer.commit(count);
      producer.publish();
      sent.push(...bytes);
    }
    if (consumer.next() >= 0) {
      const part = consumer.view().slice(0, 500);
      received.push(...part);
      consumer.skip(part.length);
    }
  }
  for (const rest of receiveAll(consumer)) received.push(...rest);
  expect(received).toEqual(sent);
  expect(sent.length).toBeGreaterThan(CAPACITY * 4);
});

test("finish() ends the ring after what was published", () => {
  const { producer, consumer } = ringPair(CAPACITY);
  producer.put(payload(3, 0), 0);
  producer.finish();
  expect(consumer.next()).toBe(3);
  consumer.release();
  expect(consumer.next()).toBe(FINISHED);
});

test("putMany() and takeMany() lose and repeat nothing, whatever put() and next() do between them", () => {
  const sizes = fc.array(fc.integer({ min: 0, max: 300 }), { minLength: 1, maxLength: 20 });
  fc.assert(
    fc.property(fc.array(sizes, { minLength: 1, maxLength: 25 }), (batches) => {
      const { producer, consumer } = ringPair(CAPACITY, BEFORE_WRAP | 0);
      const sent: Uint8Array[] = [];
      const received: Uint8Array[] = [];
      const into = new Uint8Array(256); // too short for some, which next() then takes
      const visit = (length: number, type: number): void => {
        expect(type).toBe(5);
        received.push(into.slice(0, length));
      };
      for (const batch of batches) {
        const list = batch.map((length, index) => payload(length, sent.length + index));
        let index = producer.putMany(list, 0, list.length, 5);
        while (index < list.length && producer.put(list[index] as Uint8Array, 5)) {
          index = producer.putMany(list, index + 1, list.length, 5);
        }
        sent.push(...list.slice(0, index));
        producer.publish();
        consumer.takeMany(into, 7, visit);
        if (consumer.next() < 0) continue;
        received.push(consumer.copy());
        consumer.release();
      }
      received.push(...receiveAll(consumer));
      expect(received).toEqual(sent);
    }),
    { numRuns: 100 },
  );
});

test("receive() takes short whole messages and leaves everything else to next()", () => {
  const pair = ringPair(CAPACITY);
  const into = new Uint8Array(64);
  expect(pair.consumer.receive(into)).toBe(EMPTY);
  pair.producer.send(Uint8Array.of(1, 2, 3, 4), 9);
  expect(pair.consumer.receive(into)).toBe(4);
  expect([...into.subarray(0, 5), pair.consumer.type]).toEqual([1, 2, 3, 4, 0, 9]);
  const others: [bytes: Uint8Array, flags: number][] = [
    [new Uint8Array(3), FIRST | LAST],
    [new Uint8Array(68), FIRST | LAST],
    [new Uint8Array(256), FIRST | LAST],
    [new Uint8Array(8), FIRST],
    [new Uint8Array(8), LAST],
  ];
  for (const [bytes, flags] of others) {
    pair.producer.put(bytes, 0, flags);
    pair.producer.publish();
    expect(pair.consumer.receive(into)).toBe(UNUSUAL);
    expect(pair.consumer.next()).toBe(bytes.length);
    pair.consumer.release();
  }
  pair.producer.send(new Uint8Array(8), 0);
  pair.consumer.watched = true;
  expect(pair.consumer.receive(into)).toBe(UNUSUAL);
  pair.consumer.watched = false;
  expect(pair.consumer.receive(into)).toBe(8);
});

test("send() does nothing while blocked, and says when the consumer has left", () => {
  const pair = ringPair(CAPACITY);
  pair.producer.blocked = true;
  expect(pair.producer.send(new Uint8Array(8), 0)).toBe(false);
  pair.producer.blocked = false;
  expect(pair.producer.unreadBytes).toBe(0);
  pair.consumer.leave();
  expect(pair.producer.send(new Uint8Array(8), 0)).toBe(false);
  expect(pair.producer.peerGone).toBe(true);
});

test("the totals go on past 2^32", () => {
  const { producerMemory, consumerMemory } = ringPair(CAPACITY);
  producerMemory.words[COLD_BYTES] = producerMemory.words[COLD_MESSAGES] = -1;
  const doorbell = { ring: () => undefined };
  const producer = new RingProducer({ own: producerMemory, peer: consumerMemory, capacity: CAPACITY, doorbell });
  producer.send(new Uint8Array(8), 0);
  producer.put(new Uint8Array(8), 0);
  const { bytes, messages } = readSideStatistics(producerMemory.words.subarray(HEADER_BYTES / 4), CAPACITY);
  expect([bytes, messages]).toEqual([2 ** 32 + 15, 2 ** 32 + 1]);
});

test("send() and receive() lose and repeat nothing, whatever put() and next() do between them", () => {
  const choice = fc.record({ size, fast: fc.boolean(), same: fc.boolean(), take: fc.integer({ min: 0, max: 3 }) });
  fc.assert(
    fc.property(fc.array(choice, { maxLength: 120 }), fc.constantFrom(0, BEFORE_WRAP), (choices, position) => {
      const { producer, consumer } = ringPair(CAPACITY, position);
      const [sent, received, into]: [Uint8Array[], Uint8Array[], Uint8Array] = [[], [], new Uint8Array(CAPACITY)];
      const again = payload(64, 3);
      const takeOne = (fast: boolean): boolean => {
        let length = fast ? consumer.receive(into) : UNUSUAL;
        if (length === UNUSUAL && consumer.next() >= 0) {
          length = consumer.length;
          consumer.take(into);
        }
        if (length >= 0) received.push(into.slice(0, length));
        return length >= 0;
      };
      for (const [index, { size, fast, same, take }] of choices.entries()) {
        const bytes = same ? again : payload(size, index);
        if (fast ? producer.send(bytes, 0) : producer.put(bytes, 0)) sent.push(bytes);
        producer.publish();
        for (let count = 0; count < take; count++) takeOne(fast);
      }
      while (takeOne(true));
      expect(received).toEqual(sent);
    }),
  );
});

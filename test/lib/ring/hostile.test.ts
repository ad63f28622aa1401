/** What an honest peer never writes is refused: no crash, no endless loop, nothing read out of bounds. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { BROKEN } from "../../../lib/ring/consumer.ts";
import { DATA_OFFSET, FIRST, HEAD, LAST, PAD, SPACE_WAKE, TAIL } from "../../../lib/ring/layout.ts";
import { receiveAll, ringPair } from "./pair.ts";

const CAPACITY = 4096;
const RECORD = DATA_OFFSET / 4;
const WHOLE = (FIRST | LAST) << 16;

describe("a tail", () => {
  const cases = {
    "beyond the capacity": CAPACITY + 8,
    "not aligned": 20,
    "moving backwards": -8,
    "far away": 0x7ffffff8,
  };
  for (const [name, tail] of Object.entries(cases)) {
    test(`${name} is refused`, () => {
      const { consumer, producerMemory } = ringPair(CAPACITY);
      producerMemory.words[TAIL] = tail;
      expect(consumer.next()).toBe(BROKEN);
      expect(consumer.violation).toEqual({ kind: "tail", value: tail, position: 0 });
    });
  }

  test("that goes back to what was consumed already is refused", () => {
    const { consumer, producer, producerMemory } = ringPair(CAPACITY);
    for (let index = 0; index < 3; index++) producer.put(new Uint8Array(8), 0);
    producer.publish();
    receiveAll(consumer);
    producerMemory.words[TAIL] = 16;
    expect(consumer.next()).toBe(BROKEN);
  });

  test("that goes back over what was seen and not consumed yet is refused", () => {
    const { consumer, producer, producerMemory } = ringPair(CAPACITY);
    for (let index = 0; index < 3; index++) producer.put(new Uint8Array(8), 0);
    producer.publish();
    expect(consumer.skipOld(CAPACITY, 0)).toBe(0);
    producerMemory.words[TAIL] = 32;
    consumer.skipOld(CAPACITY, 0);
    expect(consumer.violation).toEqual({ kind: "tail", value: 32, position: 0 });
  });
});

describe("a head", () => {
  const cases = { "beyond the tail": 128, "not aligned": 12, "moving backwards": -64 };
  for (const [name, head] of Object.entries(cases)) {
    test(`${name} is refused and makes no room`, () => {
      const { producer, consumerMemory } = ringPair(CAPACITY);
      while (producer.put(new Uint8Array(56), 0)) producer.publish();
      consumerMemory.words[HEAD] = name === "beyond the tail" ? CAPACITY + head : head;
      expect(producer.put(new Uint8Array(56), 0)).toBe(false);
      expect(producer.violation?.kind).toBe("head");
      consumerMemory.words[HEAD] = CAPACITY;
      expect(producer.put(new Uint8Array(56), 0)).toBe(false);
    });
  }

  test("within what was put but not published is refused", () => {
    const { producer, consumerMemory } = ringPair(CAPACITY);
    producer.put(new Uint8Array(56), 0);
    consumerMemory.words[HEAD] = 64;
    producer.refreshHead();
    expect(producer.violation?.kind).toBe("head");
  });
});

describe("a record", () => {
  const lengths = {
    "0xffffffff": -1,
    "0x80000000": -(2 ** 31),
    "above what is published": 1024,
    "0x10040": 0x10040,
    "above half the ring": 2048,
  };
  for (const [name, length] of Object.entries(lengths)) {
    test(`of length ${name} is refused`, () => {
      const { consumer, producerMemory } = ringPair(CAPACITY);
      producerMemory.words[RECORD] = length;
      producerMemory.words[RECORD + 1] = WHOLE;
      producerMemory.words[TAIL] = 64;
      expect(consumer.next()).toBe(BROKEN);
      expect(consumer.violation).toEqual({ kind: "length", value: length, position: 0 });
      expect(consumer.next()).toBe(BROKEN);
    });
  }

  test("that crosses the end of the ring is refused", () => {
    const { consumer, producerMemory } = ringPair(CAPACITY, CAPACITY - 64);
    producerMemory.words[RECORD + (CAPACITY - 64) / 4] = 64;
    producerMemory.words[RECORD + (CAPACITY - 64) / 4 + 1] = WHOLE;
    producerMemory.words[TAIL] = CAPACITY + 8;
    expect(consumer.next()).toBe(BROKEN);
  });

  test("of zeroes is refused: it is no message", () => {
    const { consumer, producerMemory } = ringPair(CAPACITY);
    producerMemory.words[TAIL] = CAPACITY;
    expect(consumer.next()).toBe(BROKEN);
    expect(consumer.violation?.kind).toBe("flags");
  });

  test("that pads to anywhere but the end is refused", () => {
    const { consumer, producerMemory } = ringPair(CAPACITY);
    producerMemory.words[RECORD + 1] = PAD << 16;
    producerMemory.words[TAIL] = 8;
    expect(consumer.next()).toBe(BROKEN);
  });

  test("that starts a message inside another, or goes on with none, is refused", () => {
    for (const flags of [[FIRST, FIRST], [LAST], [8], [PAD | FIRST]]) {
      const { consumer, producer } = ringPair(CAPACITY);
      for (const flag of flags) producer.put(new Uint8Array(8), 0, flag);
      producer.publish();
      receiveAll(consumer);
      expect(consumer.violation?.kind).toBe("flags");
    }
  });

  test("of a message of several is refused when it has no bytes: such could follow one another for ever", () => {
    for (const flags of [[FIRST], [FIRST, 0], [FIRST, LAST]]) {
      const { consumer, producer } = ringPair(CAPACITY);
      for (const [index, flag] of flags.entries()) {
        producer.put(new Uint8Array(index + 1 === flags.length ? 0 : 8), 0, flag);
      }
      producer.publish();
      expect(receiveAll(consumer)).toHaveLength(flags.length - 1);
      expect(consumer.violation).toEqual({ kind: "length", value: 0, position: (flags.length - 1) * 16 });
    }
  });

  test("is read once: a length that changes after next() changes nothing", () => {
    const { consumer, producer, producerMemory } = ringPair(CAPACITY);
    producer.put(new Uint8Array(16).fill(7), 0);
    producer.publish();
    expect(consumer.next()).toBe(16);
    producerMemory.words[RECORD] = 2000;
    expect(consumer.copy()).toEqual(new Uint8Array(16).fill(7));
    consumer.release();
    expect(consumer.violation).toBeUndefined();
  });
});

test("random memory never crashes, hangs or gives more bytes than the ring has", () => {
  const word = fc.oneof(fc.integer(), fc.constantFrom(0, 8, 64, WHOLE, FIRST << 16, LAST << 16, PAD << 16, CAPACITY));
  fc.assert(
    fc.property(
      fc.array(word, { minLength: 64, maxLength: 64 }),
      fc.array(fc.integer(), { maxLength: 8 }),
      (data, tails) => {
        const { consumer, producerMemory } = ringPair(CAPACITY);
        producerMemory.words.set(data, RECORD);
        for (const tail of [...tails, 128]) {
          producerMemory.words[TAIL] = tail & ~7;
          const bytes = receiveAll(consumer).reduce((sum, message) => sum + message.length, 0);
          expect(bytes).toBeLessThanOrEqual(CAPACITY);
        }
      },
    ),
    { numRuns: 300 },
  );
});

test("random wake words make no more doorbells than commits", () => {
  fc.assert(
    fc.property(fc.array(fc.integer(), { maxLength: 40 }), (words) => {
      const { consumer, producer, producerMemory, rings } = ringPair(CAPACITY);
      for (const word of words) {
        producerMemory.words[SPACE_WAKE] = word;
        producer.put(new Uint8Array(8), 0);
        producer.publish();
        receiveAll(consumer);
      }
      expect(rings.producer).toBeLessThanOrEqual(words.length);
    }),
    { numRuns: 50 },
  );
});

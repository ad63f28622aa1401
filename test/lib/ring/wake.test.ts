import { expect, spyOn, test } from "bun:test";
import { DATA_WAKE, HEAD, HEADER_BYTES, SPACE_WAKE, TAIL } from "../../../lib/ring/layout.ts";
import { readSideStatistics } from "../../../lib/ring/statistics.ts";
import { receiveAll, ringPair } from "./pair.ts";

const CAPACITY = 4096;
const BYTES = new Uint8Array(56);

function fill(pair: ReturnType<typeof ringPair>): number {
  let count = 0;
  while (pair.producer.put(BYTES, 0)) count++;
  pair.producer.publish();
  return count;
}

test("publish() rings only for a consumer that is armed, and once for each time", () => {
  const pair = ringPair(CAPACITY);
  fill(pair);
  expect(pair.rings.consumer).toBe(0);
  receiveAll(pair.consumer);
  expect(pair.consumer.armData()).toBe(true);
  for (let index = 0; index < 3; index++) {
    pair.producer.put(BYTES, 0);
    pair.producer.publish();
  }
  expect(pair.rings.consumer).toBe(1);
  receiveAll(pair.consumer);
  expect(pair.consumer.armData()).toBe(true);
  pair.producer.put(BYTES, 0);
  pair.producer.publish();
  expect(pair.rings.consumer).toBe(2);
});

test("every position and wake word is stored atomically: a plain store may pass the load after it", () => {
  const pair = ringPair(CAPACITY);
  const store = spyOn(Atomics, "store");
  const stored = (action: () => void): unknown[] => {
    store.mockClear();
    action();
    return store.mock.calls.map(([, index]) => index);
  };
  try {
    pair.producer.put(BYTES, 0);
    expect(stored(() => pair.producer.publish())).toEqual([TAIL]);
    expect(stored(() => pair.producer.send(BYTES, 0))).toEqual([TAIL]);
    receiveAll(pair.consumer);
    pair.producer.send(BYTES, 0);
    pair.consumer.next();
    pair.consumer.release();
    expect(stored(() => pair.consumer.publish())).toEqual([HEAD]);
    expect(stored(() => pair.consumer.armData())).toEqual([DATA_WAKE]);
    fill(pair);
    expect(stored(() => pair.producer.armSpace(56))).toEqual([SPACE_WAKE]);
  } finally {
    store.mockRestore();
  }
});

test("armData() looks again after arming: data that is there is not slept over", () => {
  const pair = ringPair(CAPACITY);
  pair.producer.put(BYTES, 0);
  pair.producer.publish();
  expect(pair.consumer.armData()).toBe(false);
  expect(pair.consumerMemory.words[DATA_WAKE]).toBe(0);
});

test("a consumer is disarmed by the data it finds", () => {
  const pair = ringPair(CAPACITY);
  pair.consumer.armData();
  expect(pair.consumerMemory.words[DATA_WAKE]).not.toBe(0);
  pair.producer.put(BYTES, 0);
  pair.producer.publish();
  pair.consumer.next();
  expect(pair.consumerMemory.words[DATA_WAKE]).toBe(0);
});

test("a full ring wakes its producer when a quarter is free, not for every record", () => {
  const pair = ringPair(CAPACITY);
  const records = fill(pair);
  expect(pair.producer.armSpace(BYTES.length)).toBe(true);
  let taken = 0;
  while (pair.rings.producer === 0 && pair.consumer.next() >= 0) {
    pair.consumer.release();
    taken++;
  }
  expect(taken).toBeGreaterThanOrEqual(records / 4);
  expect(taken).toBeLessThan(records);
  expect(pair.producer.put(BYTES, 0)).toBe(true);
  expect(pair.producerMemory.words[SPACE_WAKE]).toBe(0);
});

test("armSpace() looks again after arming: room that is there is not slept over", () => {
  const pair = ringPair(CAPACITY);
  fill(pair);
  receiveAll(pair.consumer);
  expect(pair.producer.armSpace(BYTES.length)).toBe(false);
  expect(pair.producerMemory.words[SPACE_WAKE]).toBe(0);
});

test("finish() wakes a consumer whatever it waits for", () => {
  const pair = ringPair(CAPACITY);
  pair.consumer.armData();
  pair.producer.finish();
  expect(pair.rings.consumer).toBe(1);
});

test("finish() does not ring for a consumer that has left", () => {
  const pair = ringPair(CAPACITY);
  pair.consumer.leave();
  pair.producer.finish();
  expect(pair.rings.consumer).toBe(0);
});

test("leave() tells the producer at its next publish()", () => {
  const pair = ringPair(CAPACITY);
  pair.consumer.leave();
  pair.producer.put(BYTES, 0);
  pair.producer.publish();
  expect(pair.producer.peerGone).toBe(true);
  expect(pair.rings.consumer).toBe(0);
});

test("statistics count bytes, messages and doorbells, and carry at 2^32", () => {
  const pair = ringPair(CAPACITY);
  pair.consumer.armData();
  fill(pair);
  const stats = readSideStatistics(pair.producerMemory.words.subarray(HEADER_BYTES / 4), CAPACITY);
  expect(stats).toMatchObject({ bytes: 64 * 56, messages: 64, wakeups: 1, wakeupsSaved: 63, tail: CAPACITY, head: 0 });
});

test("who waits for room shows first what it has put: nothing else is ever consumed", () => {
  for (const arm of ["armSpace", "armDrained"] as const) {
    const pair = ringPair(CAPACITY);
    while (pair.producer.put(BYTES, 0));
    expect(pair.producer[arm](2000)).toBe(true);
    receiveAll(pair.consumer);
    expect(pair.rings.producer).toBe(1);
  }
});

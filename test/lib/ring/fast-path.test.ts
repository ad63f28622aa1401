/** The machine code does what the TypeScript does: step by step, on equal memory, with an honest peer and with others. */
import { afterEach, test as always, expect } from "bun:test";
import fc from "fast-check";
import { UNUSUAL } from "../../../lib/ring/consumer.ts";
import { DATA_OFFSET, DATA_WAKE, FIRST, HEAD, LAST, PAD, SPACE_WAKE, TAIL } from "../../../lib/ring/layout.ts";
import { type RingPair as Ring, receiveAll, ringPair } from "./pair.ts";
import { twins } from "./twins.ts";

const test = always.skipIf(process.arch !== "x64"); // the machine code is for that processor alone
const CAPACITY = 4096;
const MAX_PAYLOAD = CAPACITY / 2 - 8;
const open: Ring[] = [];

afterEach(() => {
  for (const { producer, consumer } of open.splice(0)) for (const end of [producer, consumer]) end.retire();
});

/** One step, done at both; each returns what can be seen of it. */
type Step = (ring: Ring, buffers: Buffers) => unknown;
type Buffers = { readonly out: readonly Uint8Array[]; readonly into: readonly Uint8Array[]; packed: Int32Array };

function buffers(): Buffers {
  const lengths = [0, 1, 3, 4, 8, 20, 64, 65, 127, 256, 300, 1000, MAX_PAYLOAD];
  return {
    out: lengths.map((length) => new Uint8Array(length + 3).subarray(3).map((_, index) => index * 7 + length)),
    into: [0, 8, 64, 301, MAX_PAYLOAD].map((length) => new Uint8Array(length)),
    packed: new Int32Array(16 * 6).map((_, index) => index * 77),
  };
}

const index = fc.integer({ min: 0, max: 12 });
const send = fc.tuple(index, fc.nat(0x1ffff)).map(
  ([which, type]): Step =>
    ({ producer }, { out }) => {
      const bytes = out[which] as Uint8Array;
      return [producer.send(bytes, type), producer.send(bytes, type), producer.send(bytes, type + 1)];
    },
);
/** As a channel does it: machine code takes more messages by itself than TypeScript's shortest way. */
function take({ consumer }: Ring, into: Uint8Array, looks?: number): unknown {
  const taken = consumer.receive(into, looks);
  const length = taken === UNUSUAL ? consumer.next() : taken;
  if (taken !== UNUSUAL || length < 0 || length > into.length || consumer.flags !== (FIRST | LAST)) return length;
  consumer.take(into);
  return length;
}

const receive = fc.tuple(fc.nat(4), fc.integer({ min: 1, max: 3 })).map(
  ([which, looks]): Step =>
    (ring, { into }) => {
      const target = into[which] as Uint8Array;
      const lengths = [take(ring, target, looks), take(ring, target), take(ring, target)];
      return [lengths, ...target, ring.consumer.type];
    },
);
const next = fc.constant<Step>(({ consumer }) => {
  const length = consumer.next();
  if (length < 0) return length;
  const seen = [length, consumer.type, consumer.flags, ...consumer.copy()];
  consumer.release();
  return seen;
});
/** Until nothing more goes: TypeScript stops at the end of the ring, machine code goes on. */
const packed = fc.tuple(fc.constantFrom(4, 12, 16, 24), fc.nat(3)).map(
  ([bytes, from]): Step =>
    (ring, { packed }) => {
      const count = Math.trunc((packed.length * 4) / bytes);
      let at = Math.min(from, count);
      for (let before = -1; at > before; at = ring.producer.putPacked(packed, bytes, at, count, 9)) before = at;
      ring.producer.publish();
      return at;
    },
);
const takePacked = fc.tuple(fc.constantFrom(4, 12, 16, 24), fc.nat(6)).map(
  ([bytes, max]): Step =>
    ({ consumer }) => {
      const target = new Int32Array(64);
      const taken: number[] = [];
      for (let count = -1; count !== 0; taken.push(...target.subarray(0, (count * bytes) / 4))) {
        count = consumer.takePacked(target, bytes, max);
      }
      return taken;
    },
);
const control: fc.Arbitrary<Step> = fc.constantFrom<Step>(
  ({ consumer }) => void consumer.publish(),
  ({ consumer }) => consumer.armData(),
  ({ consumer }) => void consumer.disarmData(),
  ({ producer }) => producer.armSpace(500),
  ({ producer }) => void producer.disarmSpace(),
  ({ producer }) => producer.put(new Uint8Array(40).fill(1), 3, FIRST),
  ({ producer }) => void producer.publish(),
  ({ producer }) => producer.unreadBytes,
  ({ consumer }) => Object.assign(consumer, { watched: true }).type,
  ({ consumer }) => Object.assign(consumer, { watched: false }).type,
);
const honest = fc.oneof(
  { weight: 6, arbitrary: send },
  { weight: 6, arbitrary: receive },
  { weight: 3, arbitrary: packed },
  { weight: 3, arbitrary: takePacked },
  { weight: 2, arbitrary: next },
  { weight: 2, arbitrary: control },
);

const word = fc.oneof(fc.integer(), fc.constantFrom(0, 1, 2, 8, 64, -8, 1 << 30, -(2 ** 31), CAPACITY, CAPACITY + 8));
const scribble = fc.oneof(
  fc.tuple(fc.constantFrom(TAIL, DATA_WAKE, SPACE_WAKE, HEAD), word, fc.boolean()),
  fc.tuple(
    fc.nat(CAPACITY / 8 - 1).map((at) => DATA_OFFSET / 4 + at * 2),
    word,
    fc.constant(true),
  ),
  fc.tuple(
    fc.nat(CAPACITY / 8 - 1).map((at) => DATA_OFFSET / 4 + at * 2 + 1),
    fc.constantFrom(FIRST, LAST, FIRST | LAST, PAD, 8, 0xffff).map((flags) => flags << 16),
    fc.constant(true),
  ),
);
/** Writes into what the other side would write. */
const lie = scribble.map(
  ([at, value, atConsumer]): Step =>
    ({ producerMemory, consumerMemory }) => {
      (atConsumer ? producerMemory : consumerMemory).words[at] = value;
    },
);

function compare(position: number, steps: readonly Step[]): number {
  const { rings, calls } = twins(CAPACITY, position);
  const [slow, fast] = rings;
  open.push(slow, fast);
  const [ours, theirs] = [buffers(), buffers()];
  for (const step of steps) {
    expect(step(fast, theirs)).toEqual(step(slow, ours));
    for (const { producer, consumer } of rings) {
      consumer.publish(); // how far it gets by itself differs
      producer.refreshHead();
    }
    expect(fast.rings).toEqual(slow.rings);
    expect(fast.producer.violation).toEqual(slow.producer.violation);
    expect(fast.consumer.violation).toEqual(slow.consumer.violation);
  }
  expect(Buffer.compare(fast.producerMemory.bytes, slow.producerMemory.bytes)).toBe(0);
  expect(Buffer.compare(fast.consumerMemory.bytes, slow.consumerMemory.bytes)).toBe(0);
  return calls();
}

const start = fc.constantFrom(0, 8, CAPACITY - 8, 2 ** 31 - 1024, -1024, -8);

test("machine code leaves the same answers, wake-ups and bytes as TypeScript, with an honest peer", () => {
  let calls = 0;
  fc.assert(
    fc.property(start, fc.array(honest, { minLength: 5, maxLength: 80 }), (position, steps) => {
      calls += compare(position, steps);
    }),
    { numRuns: 1000, includeErrorInReport: true },
  );
  expect(calls).toBeGreaterThan(1000);
});

test("machine code leaves the same answers, violations and bytes as TypeScript, with a peer that writes anything", () => {
  const steps = fc.array(fc.oneof({ weight: 5, arbitrary: honest }, { weight: 1, arbitrary: lie }), {
    minLength: 5,
    maxLength: 60,
  });
  fc.assert(
    fc.property(start, steps, (position, list) => void compare(position, list)),
    { numRuns: 2000, includeErrorInReport: true },
  );
});

test("machine code copies every length from and to every place within a cache line, and nothing beside it", () => {
  const { rings, calls } = twins(CAPACITY, 0);
  open.push(...rings);
  const [, ring] = rings;
  for (let place = 0; place < 64; place++) {
    for (const length of [255, 256, 257 + place, 384 + (place >> 1), 512, 1000 + place]) {
      const out = new Uint8Array(1200).map((_, at) => at * 7 + length + place).subarray(place, place + length);
      const around = new Uint8Array(1200).fill(0xee);
      const into = around.subarray(63 - place, 63 - place + length);
      for (let time = 0; time < 4; time++) {
        into.fill(0);
        expect(ring.producer.send(out, 0)).toBe(true);
        expect(take(ring, into)).toBe(length);
        if (Buffer.compare(into, out) !== 0) throw new Error(`Length ${length}, place ${place}, time ${time}`);
      }
      const beside = [...around.subarray(0, 63 - place), ...around.subarray(63 - place + length)];
      if (beside.some((byte) => byte !== 0xee)) throw new Error(`Length ${length}, place ${place}: written beside it`);
    }
  }
  expect(calls()).toBeGreaterThan(1000);
});

test("totals go over 2^32 as they do in TypeScript", () => {
  const { rings } = twins(CAPACITY, 0);
  open.push(...rings);
  const bytes = new Uint8Array(64);
  for (const { producer, consumer, producerMemory } of rings) {
    for (let time = 0; time < 3; time++) producer.send(bytes, 0);
    const place = (producer as unknown as { place: Int32Array }).place;
    place[7] = place[8] = -1; // both totals, about to go over
    for (let time = 0; time < 3; time++) producer.send(bytes, 0);
    expect([...producerMemory.words.subarray(TAIL + 192, TAIL + 196)]).toEqual([191, 1, 2, 1]);
    while (consumer.next() >= 0) consumer.release();
  }
});

test("a buffer that was taken away or has another length is not read where it lay", () => {
  const made = twins(CAPACITY, 0).rings[1];
  open.push(made);
  const bytes = new Uint8Array(64).fill(5);
  for (let time = 0; time < 3; time++) expect(made.producer.send(bytes, 0)).toBe(true);
  structuredClone(bytes.buffer, { transfer: [bytes.buffer] });
  expect(() => made.producer.send(bytes, 0)).toThrow(TypeError);
  expect(receiveAll(made.consumer)).toEqual(Array(3).fill(new Uint8Array(64).fill(5)));
});

test("a small array that the engine moves when its buffer is asked for is still the right one, hot code and garbage or not", () => {
  const { rings } = twins(CAPACITY, 0);
  open.push(...rings);
  const [, ring] = rings;
  const fill = (bytes: Uint8Array, value: number): void => {
    for (let at = 0; at < bytes.length; at++) bytes[at] = value;
  };
  for (let round = 0; round < 3000; round++) {
    const [out, into] = [new Uint8Array(8), new Uint8Array(8)];
    for (let time = 0; time < 5; time++) {
      fill(out, round + time);
      expect(ring.producer.send(out, 0)).toBe(true);
      expect(take(ring, into)).toBe(8);
      if (into[0] !== ((round + time) & 255) || into[7] !== into[0]) throw new Error(`Round ${round}, time ${time}`);
      if (time === 3) void [out.buffer, into.buffer];
    }
    if (round % 500 === 0) Bun.gc(true);
  }
});

test("bytes that may be moved while they keep their length are not given to machine code", () => {
  type Resizable = { toResizableBuffer(): ArrayBuffer };
  const memories = Array.from({ length: 12 }, () => new WebAssembly.Memory({ initial: 1, maximum: 65536 }));
  const buffers = memories.map((memory) => (memory as unknown as Resizable).toResizableBuffer());
  const made = twins(CAPACITY, 0);
  const [, { producer, consumer }] = made.rings;
  open.push(...made.rings);
  const views = buffers.map((buffer) => new Uint8Array(buffer, 0, 64));
  for (const [index, into] of views.entries()) {
    for (let time = 0; time < 5; time++) {
      producer.send(new Uint8Array(64).fill(time + 1), 0);
      if (time === 3) memories[index]?.grow(512);
      expect(take(made.rings[1], into)).toBe(64);
      expect(into[63]).toBe(time + 1);
      expect(producer.send(into, 0)).toBe(true);
      consumer.next();
      expect(consumer.copy()).toEqual(new Uint8Array(64).fill(time + 1));
      consumer.release();
    }
  }
});

test("a type that runs code of the caller's does so before the bytes are looked at", () => {
  const { rings } = twins(CAPACITY, 0);
  open.push(...rings);
  for (const { producer, consumer } of rings) {
    const bytes = new Uint8Array(64).fill(5);
    for (let time = 0; time < 3; time++) producer.send(bytes, 0);
    const type = { valueOf: () => structuredClone(bytes.buffer, { transfer: [bytes.buffer] }) && 3 };
    expect(() => producer.send(bytes, type as unknown as number)).toThrow(TypeError);
    expect(receiveAll(consumer)).toHaveLength(3);
    expect(producer.send(new Uint8Array(1), "7" as unknown as number)).toBe(true);
    expect([consumer.next(), consumer.type]).toEqual([1, 7]);
  }
});

test("an end that was retired calls no machine code, and does as it did", () => {
  const { rings, calls } = twins(CAPACITY, 0);
  const bytes = new Uint8Array(16).fill(9);
  for (let time = 0; time < 3; time++) rings[1].producer.send(bytes, 0);
  rings[1].producer.retire();
  const before = calls();
  expect(rings[1].producer.send(bytes, 0)).toBe(true);
  expect(calls()).toBe(before);
  expect(rings[1].producer.unreadBytes).toBe(4 * 24);
  expect(receiveAll(rings[1].consumer)).toEqual(Array(4).fill(bytes));
  rings[1].consumer.retire();
});

always("where there is no machine code everything works without", () => {
  let asked = 0;
  const { producer, consumer } = ringPair(CAPACITY, 0, () => void asked++);
  const bytes = new Uint8Array(16).fill(3);
  for (let time = 0; time < 4; time++) expect(producer.send(bytes, 0)).toBe(true);
  const into = new Uint8Array(16);
  for (let time = 0; time < 4; time++) expect(consumer.receive(into)).toBe(16);
  expect([asked, into]).toEqual([2, bytes]); // once at each end
});

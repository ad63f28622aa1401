/**
 * Ten million operations in random order on both ends of two rings whose other side writes whatever it likes, mostly what
 * an honest one would and now and then what none would. Nothing throws, hangs, or touches what is not its own. Half of
 * them with machine code where there is some, for which the same buffer comes several times.
 */
import { expect, test } from "bun:test";
import { RecordPath } from "../../../ffi/mod.ts";
import { BROKEN, RingConsumer, UNUSUAL } from "../../../lib/ring/consumer.ts";
import type { FastPath } from "../../../lib/ring/fast-path.ts";
import {
  DATA_OFFSET,
  DATA_WAKE,
  FIRST,
  HEAD,
  LAST,
  maxPayloadBytes,
  PAD,
  type RingMemory,
  ringFileBytes,
  SPACE_WAKE,
  STATE,
  TAIL,
} from "../../../lib/ring/layout.ts";
import { RingProducer } from "../../../lib/ring/producer.ts";

const HAS_MACHINE_CODE = process.arch === "x64";
const OPERATIONS = Number(process.env["SHMLINK_TEST_RING_OPERATIONS"] ?? 10_000_000);
const CAPACITY = 4096;
const FILE_BYTES = ringFileBytes(CAPACITY);
const GUARD_WORDS = 1024;
const GUARD = 0x5a5a5a5a;
const MAX_PAYLOAD = maxPayloadBytes(CAPACITY);

class Dice {
  #state: number;

  constructor(seed: number) {
    this.#state = Math.imul(seed, 0x9e3779b1) | 1;
  }

  word(): number {
    let state = this.#state;
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    this.#state = state;
    return state;
  }

  /** 0 <= result < `sides` */
  roll(sides: number): number {
    return (this.word() >>> 1) % sides;
  }
}

/** A ring's file with words behind it that nobody may touch. */
function guarded(): RingMemory {
  const words = new Int32Array(FILE_BYTES / 4 + GUARD_WORDS).fill(GUARD, FILE_BYTES / 4);
  return { words, bytes: new Uint8Array(words.buffer) };
}

function expectUntouched({ words }: RingMemory): void {
  expect(words.subarray(0, TAIL).every((word) => word === 0)).toBe(true);
  expect(words.subarray(FILE_BYTES / 4).every((word) => word === GUARD)).toBe(true);
}

type Tally = {
  operations: number;
  violations: number;
  sent: number;
  received: number;
  rings: number;
  published: number;
  /** Calls of machine code that did something, and all of them. */
  done: number;
  calls: number;
};

/** Machine code for the two ends of a duel, with its calls counted. */
function counted(own: RingMemory, peer: RingMemory, tally: Tally): FastPath {
  const path = RecordPath.open(own.bytes, peer.bytes);
  if (path === undefined) throw new Error("Cannot test machine code: the system does not allow it");
  const count = (result: number, done: boolean): number => {
    tally.calls++;
    if (done) tally.done++;
    return result;
  };
  const noted = (result: number, nothing: number): number => count(result, result > nothing);
  return {
    state: path.state,
    lend: (which, bytes) => path.lend(which, bytes),
    send: (length, type) => noted(path.send(length, type), -1),
    receive: (room, looks) => noted(path.receive(room, looks), -1),
    putPacked: (bytes, from, to, type) => noted(path.putPacked(bytes, from, to, type), from),
    takePacked: (bytes, most) => noted(path.takePacked(bytes, most), 0),
    close: () => path.close(),
  };
}

class Duel {
  readonly #dice: Dice;
  readonly #tally: Tally;
  readonly #machine: boolean;
  readonly #own: RingMemory = guarded();
  readonly #peer: RingMemory = guarded();
  readonly #into: Uint8Array = new Uint8Array(MAX_PAYLOAD);
  readonly #packed: Int32Array = new Int32Array(64);
  readonly #payloads: readonly Uint8Array[] = [0, 1, 4, 8, 60, 64, 200, 1000, MAX_PAYLOAD].map(
    (n) => new Uint8Array(n),
  );
  #current = new Uint8Array(0);
  readonly #visit = (length: number): void => this.#took(length);
  #producer: RingProducer;
  #consumer: RingConsumer;
  /** Of the hostile side: where an honest one would be. */
  #tail = 0;
  #head = 0;

  constructor(seed: number, tally: Tally, machine: boolean) {
    this.#dice = new Dice(seed);
    this.#tally = tally;
    this.#machine = machine;
    [this.#producer, this.#consumer] = this.#start();
  }

  step(): void {
    this.#tally.operations++;
    const move = this.#dice.roll(32);
    if (move < 8) this.#produce(move);
    else if (move < 18) this.#consume(move);
    else if (move < 31) this.#play(move);
    else this.#cheat();
    if (this.#producer.stuck || this.#consumer.violation !== undefined) this.#refused();
  }

  end(): void {
    for (const end of [this.#producer, this.#consumer]) end.retire();
    expectUntouched(this.#own);
    expectUntouched(this.#peer);
  }

  #start(): [RingProducer, RingConsumer] {
    const near = this.#dice.roll(4) === 0 ? -1024 : this.#dice.word();
    const position = near & ~7;
    for (const { words } of [this.#own, this.#peer]) {
      words.fill(0, TAIL, DATA_OFFSET / 4);
      words[TAIL] = words[HEAD] = position;
    }
    this.#tail = this.#head = position;
    const ends = {
      own: this.#own,
      peer: this.#peer,
      capacity: CAPACITY,
      doorbell: { ring: () => void this.#tally.rings++ },
      openFastPath: this.#machine ? () => counted(this.#own, this.#peer, this.#tally) : undefined,
    };
    return [new RingProducer(ends), new RingConsumer(ends)];
  }

  /** Once refused, always refused, whatever is there now; then from the beginning. */
  #refused(): void {
    this.#tally.violations++;
    const [producer, consumer] = [this.#producer, this.#consumer];
    if (producer.violation !== undefined && (producer.send(new Uint8Array(0), 0) || producer.hasRoom(0))) {
      throw new Error("Something was sent after a violation");
    }
    if (consumer.violation !== undefined && (consumer.next() !== BROKEN || consumer.receive(this.#into) !== UNUSUAL)) {
      throw new Error("Something was received after a violation");
    }
    for (const end of [producer, consumer]) end.retire();
    [this.#producer, this.#consumer] = this.#start();
  }

  /** Mostly the same as before, which is when machine code takes it. */
  #payload(): Uint8Array {
    const dice = this.#dice;
    if (dice.roll(6) === 0) this.#current = this.#payloads[dice.roll(this.#payloads.length)] as Uint8Array<ArrayBuffer>;
    return this.#current;
  }

  #produce(move: number): void {
    const producer = this.#producer;
    this.#tally.published++;
    switch (move) {
      case 0:
        if (producer.put(this.#payload(), 1)) this.#tally.sent++;
        return;
      case 1:
        return producer.publish();
      case 2:
        return void producer.putMany(this.#payloads, this.#dice.roll(4), 4 + this.#dice.roll(4), 3);
      case 3:
        return void producer.putPacked(this.#packed, 4 << this.#dice.roll(4), 0, 4, 3);
      case 4: {
        const offset = producer.reserve(this.#dice.roll(MAX_PAYLOAD), 5);
        if (offset >= 0) producer.commit();
        return;
      }
      case 5: {
        const offset = producer.reserveSpan();
        if (offset >= 0) producer.commit(this.#dice.roll(producer.spanLength + 1));
        return;
      }
      case 6:
        if (this.#dice.roll(2) === 0) return void producer.armSpace(this.#dice.roll(MAX_PAYLOAD));
        return void producer.armDrained();
      default:
        if (producer.send(this.#payload(), 2)) this.#tally.sent++;
    }
  }

  #took(length: number): void {
    this.#tally.received++;
    if (length < 0 || length > MAX_PAYLOAD) throw new Error(`A message of ${length} bytes was received`);
  }

  #consume(move: number): void {
    const consumer = this.#consumer;
    switch (move) {
      case 8:
      case 9:
        if (consumer.next() >= 0) {
          this.#took(consumer.length);
          consumer.take(this.#into);
        }
        return;
      case 10:
        if (consumer.next() >= 0 && consumer.copy().length !== consumer.length) throw new Error("A copy was cut");
        return;
      case 11:
        if (consumer.next() >= 0) consumer.skip(this.#dice.roll(consumer.length + 1));
        return;
      case 12:
        return void consumer.takeMany(this.#into, this.#dice.roll(20), this.#visit);
      case 13:
        return void consumer.takePacked(this.#packed, 4 << this.#dice.roll(4), 4);
      case 14:
        return void consumer.armData();
      case 15:
        return this.#dice.roll(2) === 0 ? consumer.publish() : consumer.disarmData();
      default: {
        const length = consumer.receive(this.#into);
        if (length >= 0) this.#took(length);
      }
    }
  }

  /** The other side, as an honest one. */
  #play(move: number): void {
    const { words } = this.#peer;
    if (move < 26) this.#playRecord(words);
    else if (move < 30) {
      const tail = this.#own.words[TAIL] ?? 0;
      this.#head = this.#dice.roll(2) === 0 ? tail : this.#head;
      words[HEAD] = this.#head;
    } else {
      words[DATA_WAKE] = this.#dice.roll(3) === 0 ? 0 : ((this.#own.words[TAIL] ?? 0) + 8) | 1;
      words[SPACE_WAKE] = this.#dice.roll(3) === 0 ? 0 : ((this.#own.words[HEAD] ?? 0) + 8) | 1;
    }
  }

  #playRecord(words: Int32Array): void {
    const length = this.#dice.roll(8) === 0 ? this.#dice.roll(MAX_PAYLOAD) : this.#dice.roll(16) << 2;
    const record = (length + 15) & ~7;
    const offset = this.#tail & (CAPACITY - 1);
    const left = CAPACITY - offset;
    const used = (this.#tail - (this.#own.words[HEAD] ?? 0)) | 0;
    const need = record > left ? record + left : record;
    if (used + need > CAPACITY) return;
    let word = (DATA_OFFSET + offset) >> 2;
    if (need !== record) {
      words[word] = left - 8;
      words[word + 1] = PAD << 16;
      word = DATA_OFFSET >> 2;
    }
    words[word] = length;
    words[word + 1] = 7 | ((FIRST | LAST) << 16);
    this.#tail = (this.#tail + need) | 0;
    words[TAIL] = this.#tail;
  }

  /** The other side, as it may be. */
  #cheat(): void {
    const dice = this.#dice;
    const { words } = this.#peer;
    const control = [TAIL, HEAD, DATA_WAKE, SPACE_WAKE, STATE][dice.roll(5)] as number;
    switch (dice.roll(6)) {
      case 0:
        words[control] = dice.word();
        return;
      case 1:
        words[control] = (this.#tail + (dice.word() >> dice.roll(32))) & ~7;
        return;
      case 2:
        words[TAIL + dice.roll(256)] = dice.word();
        return;
      case 3: // under the consumer's head: a length, or flags
        words[(DATA_OFFSET + ((this.#own.words[HEAD] ?? 0) & (CAPACITY - 1))) / 4 + dice.roll(2)] =
          dice.word() >>> dice.roll(32);
        return;
      case 4:
        words[DATA_OFFSET / 4 + dice.roll(CAPACITY / 4)] = dice.word() >>> dice.roll(32);
        return;
      default: {
        const start = dice.roll(CAPACITY / 4);
        words.fill(dice.word(), DATA_OFFSET / 4 + start, DATA_OFFSET / 4 + Math.min(start + 64, CAPACITY / 4));
      }
    }
  }
}

function fight(operations: number, machine: boolean): Tally {
  const tally = { operations: 0, violations: 0, sent: 0, received: 0, rings: 0, published: 0, done: 0, calls: 0 };
  for (let seed = 1; tally.operations < operations; seed++) {
    const duel = new Duel(seed, tally, machine);
    try {
      for (let count = 0; count < 100_000; count++) duel.step();
    } catch (error) {
      throw new Error(`Seed ${seed}, operation ${tally.operations}`, { cause: error });
    }
    duel.end();
  }
  expect(tally.violations).toBeGreaterThan(tally.operations / 1000);
  expect(tally.sent).toBeGreaterThan(tally.operations / 100);
  expect(tally.received).toBeGreaterThan(tally.operations / 100);
  return tally;
}

test(`${OPERATIONS / 2} random operations against a hostile side break nothing`, () => {
  expect(fight(OPERATIONS / 2, false).calls).toBe(0);
}, 180_000);

test(`${OPERATIONS / 2} random operations against a hostile side break nothing, with machine code where there is some`, () => {
  const { operations, calls, done } = fight(OPERATIONS / 2, HAS_MACHINE_CODE);
  if (!HAS_MACHINE_CODE) return;
  expect(calls).toBeGreaterThan(operations / 16);
  expect(done).toBeGreaterThan(operations / 32);
}, 180_000);

/**
 * Every message of the XML, requests and events, with values and descriptors of every kind: written and read again, in any
 * pieces, it is what it was; with bytes changed, cut, added, or with other descriptors it is a message or a fault, and
 * nothing is thrown and no descriptor counted twice. The same numbers for the same seed; one that failed belongs in the list.
 *
 * SHMLINK_FUZZ_MESSAGES says how many messages besides the corpus's.
 */
import { expect, test } from "bun:test";
import type { ArgDescription, MessageDescription } from "../../../lib/protocol/description.ts";
import { type TypedMessage, toArgs, toTyped } from "../../../lib/protocol/messages.ts";
import { INTERFACES } from "../../../lib/protocol/shmlink-v1.gen.ts";
import type { ObjectId } from "../../../lib/util/brand.ts";
import { WireReader } from "../../../lib/wire/decode.ts";
import { encode } from "../../../lib/wire/encode.ts";
import { type FaultReason, MAX_MESSAGE_BYTES } from "../../../lib/wire/types.ts";
import { NAMES, NUMBERS, Random } from "../../helpers/fuzz/random.ts";

const MESSAGES = Number(process.env["SHMLINK_FUZZ_MESSAGES"] ?? 60_000);
const CORPUS: readonly number[] = [1, 2, 3, 5, 8, 13, 21, 34, 55, 89];
const PER_SEED = 100;

type Table = readonly MessageDescription[];
type Known = { readonly id: string; readonly table: Table; readonly opcode: number };

const ALL: readonly Known[] = Object.values(INTERFACES).flatMap(({ name, requests, events }) =>
  [requests, events].flatMap((table) =>
    table.map((message, opcode) => ({ id: `${name}.${message.name}`, table, opcode })),
  ),
);

/** Every fault but that of an object that is not there: which there are the reader is told. */
const FAULTS: readonly FaultReason[] = [
  "size-too-small",
  "size-unaligned",
  "size-too-large",
  "unknown-opcode",
  "truncated-argument",
  "unterminated-string",
  "nul-in-string",
  "bad-utf8",
  "null-not-allowed",
  "missing-fd",
  "too-many-fds",
  "trailing-bytes",
];

class Codec {
  readonly #random: Random;
  readonly #seen: Set<string>;
  #lastFd = 0;

  constructor(random: Random, seen: Set<string>) {
    this.#random = random;
    this.#seen = seen;
  }

  #value({ kind, nullable }: ArgDescription): unknown {
    const random = this.#random;
    if (kind === "fd") {
      this.#lastFd += 1;
      return this.#lastFd;
    }
    if ((kind === "string" || kind === "object") && nullable === true && random.chance(4)) return null;
    if (kind === "string") return random.chance(20) ? "y".repeat(random.below(800)) : random.pick(NAMES);
    if (kind === "array") return new Uint8Array(Array.from({ length: random.below(40) }, () => random.below(256)));
    const number = random.pick(NUMBERS);
    if (kind === "int") return number | 0;
    if (kind === "fixed") return (number | 0) / 256;
    return kind === "uint" ? number : number || 1;
  }

  #make({ name, args }: MessageDescription): TypedMessage {
    const fields: Record<string, unknown> = { kind: name };
    for (const arg of args) {
      fields[arg.name] = this.#value(arg);
      if (arg.kind === "untyped_new_id") Object.assign(fields, { interface: "shmlink_manager_v1", version: 2 });
    }
    return fields as TypedMessage;
  }

  /** One message, as it should be and then spoiled. */
  try({ id, table, opcode }: Known): void {
    const description = table[opcode] as MessageDescription; // as ALL has it
    const message = this.#make(description);
    const object = this.#random.pick(NUMBERS) as ObjectId;
    const { bytes, fds } = encode({ kind: "message", object, opcode, args: toArgs<number>(description, message) });
    const wire = bytes.slice();
    this.#readWhole(wire, fds, table, message, object);
    this.#seen.add(id);
    this.#readSpoiled(wire, [...fds], table);
  }

  #readWhole(wire: Uint8Array, fds: readonly number[], table: Table, message: TypedMessage, object: ObjectId): void {
    const reader = new WireReader<number>();
    const cut = this.#random.below(wire.length);
    reader.push(wire.subarray(0, cut), fds);
    reader.push(wire.subarray(cut), []);
    const raw = reader.next((_, opcode) => table[opcode]?.args ?? "unknown-opcode");
    if (raw?.kind !== "message") throw new Error(`Not read: ${JSON.stringify(message)}: ${JSON.stringify(raw)}`);
    expect(raw.object).toBe(object);
    expect(toTyped(table[raw.opcode] as MessageDescription, raw.args)).toEqual(message);
    expect([reader.waitingBytes, reader.waitingFdCount]).toEqual([0, 0]);
  }

  #readSpoiled(whole: Uint8Array, allFds: number[], table: Table): void {
    const random = this.#random;
    let wire = whole;
    let fds = allFds;
    const view = new DataView(wire.buffer, wire.byteOffset, wire.length);
    switch (random.below(6)) {
      case 0:
        wire[random.below(wire.length)] = random.below(256);
        break;
      case 1:
        view.setUint16(
          6,
          random.pick([0, 4, 8, 9, wire.length - 4, wire.length + 4, MAX_MESSAGE_BYTES + 4, 65_535]),
          true,
        );
        wire = random.chance(2) ? concat(wire, new Uint8Array(8).fill(random.below(256))) : wire;
        break;
      case 2:
        if (wire.length > 8) view.setUint32(8 + 4 * random.below(wire.length / 4 - 2), random.pick(NUMBERS), true);
        break;
      case 3:
        fds = random.chance(2) ? fds.slice(1) : [...fds, ...Array.from({ length: random.below(70) }, () => 0)];
        break;
      case 4:
        view.setUint16(4, random.below(20), true);
        break;
      default: // as it is, before the next
    }
    const reader = new WireReader<number>();
    let sent = fds.length;
    reader.push(wire, fds);
    for (let count = 0; count < 4; count++) {
      const next = reader.next((_, opcode) => table[opcode]?.args ?? "unknown-opcode");
      if (next?.kind === "fault") this.#seen.add(next.reason);
      if (next?.kind === "message") sent -= next.args.filter(({ kind }) => kind === "fd").length;
    }
    expect(reader.drainFds().length).toBe(sent);
  }
}

function concat(one: Uint8Array, other: Uint8Array): Uint8Array {
  const both = new Uint8Array(one.length + other.length);
  both.set(one);
  both.set(other, one.length);
  return both;
}

function runSeed(seed: number, seen: Set<string>): void {
  const random = new Random(seed);
  const codec = new Codec(random, seen);
  try {
    for (let count = 0; count < PER_SEED; count++) codec.try(random.pick(ALL));
  } catch (error) {
    throw new Error(`Fuzzing failed with seed ${seed}: ${error instanceof Error ? error.stack : String(error)}`);
  }
}

test("every message of the protocol is read as it was written, and spoiled in any way it is a message or a fault", () => {
  const seen = new Set<string>();
  for (const seed of CORPUS) runSeed(seed, seen);
  const first = Date.now() % 1_000_000_000;
  for (let seed = first; (seed - first) * PER_SEED < MESSAGES; seed++) runSeed(seed, seen);
  expect([...ALL.map(({ id }) => id), ...FAULTS].filter((each) => !seen.has(each))).toEqual([]);
}, 600_000);

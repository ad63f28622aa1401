/** Contract: sealed memory files, and mapped regions that cannot be touched after they are closed. */
import assert from "node:assert/strict";
import { readFileSync, readlinkSync } from "node:fs";
import {
  addSeals,
  borrowFd,
  constants,
  fstat,
  ftruncate,
  getSeals,
  loaded,
  type Mapping,
  mapShared,
  memfdCreate,
  type OwnedFd,
  PageTable,
  pipe,
  write,
  writeAt,
} from "../../ffi/mod.ts";
import { codeOf } from "./ffi-errors.ts";
import type { Case } from "./suite.ts";

const { F_SEAL_FUTURE_WRITE, F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_WRITE } = constants;
const PAGE = 4096;

/** koffi can detach its buffers on Node alone; elsewhere zero pages take the place of the memory. */
const DETACHES: boolean =
  loaded.backend.name !== "koffi" || !("Deno" in globalThis || process.versions["bun"] !== undefined);

function makeFile(name: string, sizeBytes: number): OwnedFd {
  const file = memfdCreate(name);
  ftruncate(file, sizeBytes);
  return file;
}

function isMapped(name: string): boolean {
  return readFileSync("/proc/self/maps", "utf8").includes(`/memfd:${name} `);
}

const PAGES: readonly Case[] = [
  {
    name: "a page table copies what lies in a page of a file",
    run() {
      using file = makeFile("paged", 2 * PAGE);
      writeAt(file, new Uint8Array(new Int32Array([7, 8]).buffer), PAGE);
      const table = new PageTable();
      const words = new Int32Array(3);
      table.read(table.add(file, PAGE), words);
      assert.deepEqual([...words], [7, 8, 0]);
    },
  },
];

const SEALS: readonly Case[] = [
  {
    name: "a memfd has its name, its size and no execute bit",
    run() {
      using file = makeFile("named", 12345);
      assert.equal(readlinkSync(`/proc/self/fd/${file.number}`), "/memfd:named (deleted)");
      assert.equal(fstat(file).sizeBytes, 12345);
    },
  },
  {
    name: "seals are added, read and enforced",
    run() {
      using file = makeFile("sealed", PAGE);
      addSeals(file, F_SEAL_SHRINK | F_SEAL_GROW);
      assert.equal(getSeals(file) & (F_SEAL_SHRINK | F_SEAL_GROW), F_SEAL_SHRINK | F_SEAL_GROW);
      assert.equal(
        codeOf(() => ftruncate(file, 0)),
        "EPERM",
      );
      assert.equal(
        codeOf(() => ftruncate(file, 2 * PAGE)),
        "EPERM",
      );
      addSeals(file, F_SEAL_SEAL);
      assert.equal(
        codeOf(() => addSeals(file, F_SEAL_WRITE)),
        "EPERM",
      );
    },
  },
  {
    name: "F_SEAL_FUTURE_WRITE leaves the first mapping writable and refuses the next",
    run() {
      using file = makeFile("future", PAGE);
      using producer = mapShared(file, PAGE, "read-write");
      addSeals(file, F_SEAL_FUTURE_WRITE);
      new Uint8Array(producer.buffer)[5] = 55;
      assert.equal(
        codeOf(() => mapShared(file, PAGE, "read-write")),
        "EPERM",
      );
      assert.equal(
        codeOf(() => write(file, new Uint8Array(1))),
        "EPERM",
      );
      using consumer = mapShared(file, PAGE, "read");
      assert.equal(new Uint8Array(consumer.buffer)[5], 55);
    },
  },
  {
    name: "a large mapping begins where a huge page can, and is as long as it should be",
    run() {
      const length = 3 * 2 ** 20 + PAGE;
      using file = makeFile("large", length);
      const mapping = mapShared(file, length, "read-write");
      const lines = readFileSync("/proc/self/maps", "utf8").split("\n");
      const [start = 1, end = 0] = (lines.find((each) => each.includes("/memfd:large ")) ?? "")
        .split(/[- ]/, 2)
        .map((each) => Number.parseInt(each, 16));
      assert.deepEqual([start % 2 ** 21, end - start], [0, length]);
      new Uint8Array(mapping.buffer).fill(9, length - 5);
      using again = mapShared(file, length, "read");
      assert.deepEqual([...new Uint8Array(again.buffer, length - 6, 2)], [0, 9]);
      again.close();
      mapping.close();
      assert.equal(isMapped("large"), false);
      assert.equal(
        codeOf(() => mapShared(borrowFd(1000), length, "read")),
        "EBADF",
      );
    },
  },
  {
    name: "two mappings are closed together, wherever they lie",
    run() {
      using file = makeFile("both", 3 * PAGE);
      const first = mapShared(file, 3 * PAGE - 1, "read-write");
      const below = mapShared(file, 2 * PAGE, "read", first);
      const last = views(below);
      first.closeWith(below);
      assert.equal(isMapped("both"), false);
      assertHarmless(last.words, last.bytes, 1);
      const [one, other] = [mapShared(file, PAGE, "read-write"), mapShared(file, 2 ** 21 + PAGE, "read")];
      other.closeWith(one);
      one.closeWith(other);
      assert.equal(isMapped("both"), false);
    },
  },
  {
    name: "the beginning of a mapping can be given its memory",
    run() {
      using file = makeFile("touched", 64 * PAGE);
      using mapping = mapShared(file, 64 * PAGE, "read-write");
      mapping.touch(3 * PAGE);
      const { storedBytes } = fstat(file);
      assert.equal(storedBytes === 3 * PAGE || storedBytes === 0, true); // before Linux 5.14 it changes nothing
      mapping.touch(100 * PAGE);
    },
  },
  {
    name: "F_SEAL_WRITE is EBUSY while somebody maps it writable",
    run() {
      using file = makeFile("busy", PAGE);
      const mapping = mapShared(file, PAGE, "read-write");
      assert.equal(
        codeOf(() => addSeals(file, F_SEAL_WRITE)),
        "EBUSY",
      );
      mapping.close();
      addSeals(file, F_SEAL_WRITE);
    },
  },
  {
    name: "what cannot carry seals answers EINVAL",
    run() {
      const { reader, writer } = pipe();
      assert.equal(
        codeOf(() => getSeals(reader)),
        "EINVAL",
      );
      reader.close();
      writer.close();
    },
  },
];

/** Touches every view that was made while the mapping was open, as code with a bug would. */
function assertHarmless(words: Int32Array, bytes: Uint8Array, old: number): void {
  if (DETACHES) {
    assert.deepEqual([words.length, bytes.length, words.buffer.byteLength], [0, 0, 0]);
    assert.throws(() => Atomics.load(words, 0));
    assert.throws(() => Atomics.store(words, 0, 1));
    assert.throws(() => new Uint8Array(words.buffer));
  }
  bytes[0] = 99;
  assert.notEqual(words[1], old);
  assert.notEqual(bytes[4], old);
}

function views(mapping: Mapping): { words: Int32Array<ArrayBuffer>; bytes: Uint8Array } {
  return { words: new Int32Array(mapping.buffer), bytes: new Uint8Array(mapping.buffer) };
}

const MAPPINGS: readonly Case[] = [
  {
    name: "two mappings of a file are the same memory, also for Atomics",
    run() {
      using file = makeFile("shared", PAGE);
      using left = mapShared(file, PAGE, "read-write");
      using right = mapShared(file, PAGE, "read");
      const written = new Int32Array(left.buffer);
      const seen = new Int32Array(right.buffer);
      for (let value = 1; value < 1000; value++) {
        Atomics.store(written, value % 1024, value);
        assert.equal(Atomics.load(seen, value % 1024), value);
      }
      assert.equal(Atomics.add(written, 0, 41), Atomics.load(seen, 0) - 41);
    },
  },
  {
    name: "a mapping outlives the descriptor it was made from",
    run() {
      const file = makeFile("outlived", PAGE);
      using mapping = mapShared(file, PAGE, "read-write");
      file.close();
      const { bytes } = views(mapping);
      bytes[4095] = 7;
      assert.equal(bytes[4095], 7);
    },
  },
  {
    name: "after close() no view reaches the memory, and the file keeps what it held",
    run() {
      using file = makeFile("closed", PAGE);
      const mapping = mapShared(file, PAGE, "read-write");
      const { words, bytes } = views(mapping);
      words[1] = 42;
      mapping.close();
      mapping.close();
      assert.ok(mapping.closed && !isMapped("closed"));
      assert.throws(() => mapping.buffer, /closed/);
      assertHarmless(words, bytes, 42);
      using again = mapShared(file, PAGE, "read");
      assert.deepEqual([...new Int32Array(again.buffer, 0, 2)], [0, 42]);
    },
  },
  {
    name: "closed mappings stay harmless under a storm of collections",
    async run() {
      using file = makeFile("storm", PAGE * 16);
      for (let round = 0; round < 40; round++) {
        const kept = Array.from({ length: 10 }, () => mapShared(file, PAGE * 16, "read-write"));
        const all = kept.map(views);
        for (const { words } of all) words[1] = 1000 + round;
        for (const mapping of kept) mapping.close();
        collect(round);
        for (const { words, bytes } of all) assertHarmless(words, bytes, 1000 + round);
        if (round % 10 === 0) await new Promise((resolve) => setTimeout(resolve, 0));
      }
      assert.ok(!isMapped("storm"));
    },
  },
  {
    name: "an open mapping survives collections after its views are gone",
    async run() {
      using file = makeFile("kept", PAGE);
      using mapping = mapShared(file, PAGE, "read-write");
      (() => {
        new Int32Array(mapping.buffer)[3] = 333;
      })();
      for (let round = 0; round < 20; round++) collect(round);
      await new Promise((resolve) => setTimeout(resolve, 0));
      assert.equal(new Int32Array(mapping.buffer)[3], 333);
      assert.ok(isMapped("kept"));
    },
  },
];

/** Garbage enough for the collector, and a collection by hand where the runtime has one. */
function collect(round: number): void {
  for (let index = 0; index < 200; index++) new Array(200).fill({ round, index });
  (globalThis as { Bun?: { gc(force: boolean): void } }).Bun?.gc(true);
  (globalThis as { gc?: () => void }).gc?.();
}

export const MEMORY_CASES: readonly Case[] = [...SEALS, ...MAPPINGS, ...PAGES];

import { expect, test } from "bun:test";
import { allocateForever } from "../../../ffi/memory.ts";
import { TrapTouched } from "../../../ffi/trap/touched.ts";

const PATH_BYTES = 22_480;
const [COUNT, TABLE, OPTIONS, NOTED_COUNT, NOTED] = [64, 19_472, 19_480, 19_488, 19_496];
const MOST = 98_304;

function make(): { touched: TrapTouched; data: DataView } {
  const memory = allocateForever(PATH_BYTES);
  return { touched: new TrapTouched(memory, [2, 33]), data: memory.data };
}

const countOf = (data: DataView): number => data.getInt32(COUNT, true);

test("TrapTouched counts each cookie once, and gives the place of one that goes back", () => {
  const { touched, data } = make();
  for (const cookie of [5n, 6n, 5n, 2n ** 63n + 1n]) expect(touched.add(cookie)).toBe(true);
  expect(countOf(data)).toBe(3);
  for (const cookie of [5n, 5n, 7n]) touched.remove(cookie);
  expect(countOf(data)).toBe(2);
});

test("TrapTouched refuses more than it has room for, and takes them when the others are put away", () => {
  const { touched, data } = make();
  for (let cookie = 1; cookie <= MOST; cookie++) expect(touched.add(BigInt(cookie))).toBe(true);
  expect(touched.add(BigInt(MOST + 1))).toBe(false);
  expect(touched.add(1n)).toBe(true);
  touched.put([1n, BigInt(MOST + 1)]);
  expect(countOf(data)).toBe(2);
  expect(touched.add(BigInt(MOST + 1))).toBe(true);
  expect(countOf(data)).toBe(2);
});

test("TrapTouched loses none of those that share a place when one of them goes", () => {
  const { touched, data } = make();
  const cookies = Array.from({ length: 60_000 }, (_, index) => BigInt(index + 1));
  for (const cookie of cookies) touched.add(cookie);
  for (const cookie of cookies.slice(0, 30_000)) touched.remove(cookie);
  const before = countOf(data);
  for (const cookie of cookies.slice(30_000)) touched.add(cookie);
  expect(countOf(data)).toBe(before);
});

test("TrapTouched tells what machine code has noted, once", () => {
  const { touched, data } = make();
  expect(data.getBigUint64(OPTIONS, true)).toBe((1n << 2n) | (1n << 33n));
  expect(data.getBigUint64(TABLE, true)).not.toBe(0n);
  data.setUint32(NOTED_COUNT, 2, true);
  data.setBigUint64(NOTED, 11n, true);
  data.setBigUint64(NOTED + 8, 12n, true);
  const told: bigint[] = [];
  for (let times = 0; times < 2; times++) touched.takeNoted((cookie) => told.push(cookie));
  expect(told).toEqual([11n, 12n]);
});

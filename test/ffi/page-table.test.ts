import { expect, test } from "bun:test";
import { ftruncate, memfdCreate, type OwnedFd, PageTable, writeAt } from "../../ffi/mod.ts";

const PAGE_BYTES = 4096;

/** A file of two pages whose second one begins with these words. */
function fileWith(...words: number[]): OwnedFd {
  const fd = memfdCreate("page-table-test");
  ftruncate(fd, 2 * PAGE_BYTES);
  writeAt(fd, new Uint8Array(new Int32Array(words).buffer), PAGE_BYTES);
  return fd;
}

function firstWords(table: PageTable, place: number, count: number): number[] {
  const words = new Int32Array(count);
  table.read(place, words);
  return [...words];
}

test("read() copies the first words of the page that was added, also after its descriptor is closed", () => {
  const table = new PageTable();
  const places = [fileWith(1, 2, 3), fileWith(4, 5, 6)].map((fd) => {
    using file = fd;
    return table.add(file, PAGE_BYTES);
  });
  expect(places.map((place) => firstWords(table, place, 4))).toEqual([
    [1, 2, 3, 0],
    [4, 5, 6, 0],
  ]);
});

test("read() shows what is written to the file later", () => {
  const table = new PageTable();
  using file = fileWith(1);
  const place = table.add(file, PAGE_BYTES);
  writeAt(file, new Uint8Array(new Int32Array([7]).buffer), PAGE_BYTES);
  expect(firstWords(table, place, 2)).toEqual([7, 0]);
});

test("read() finds zeroes where a page was removed, and another page once its place is used again", () => {
  const table = new PageTable();
  using one = fileWith(1);
  using other = fileWith(2);
  const place = table.add(one, PAGE_BYTES);
  table.remove(place);
  expect(firstWords(table, place, 1)).toEqual([0]);
  expect(table.add(other, PAGE_BYTES)).toBe(place);
  expect(firstWords(table, place, 1)).toEqual([2]);
});

test("read() copies no more than a page, however long the words are", () => {
  const table = new PageTable();
  using file = fileWith(1);
  const words = new Int32Array(PAGE_BYTES / 2).fill(-1);
  table.read(table.add(file, PAGE_BYTES), words);
  expect([words[0], words[PAGE_BYTES / 4 - 1], words[PAGE_BYTES / 4]]).toEqual([1, 0, -1]);
});

test("places of many pages are each their own", () => {
  const table = new PageTable();
  using file = fileWith(9);
  const places = Array.from({ length: 1100 }, (_, index) => table.add(file, index === 1050 ? PAGE_BYTES : 0));
  expect(places.filter((place) => firstWords(table, place, 1)[0] === 9)).toEqual([places[1050] ?? -1]);
});

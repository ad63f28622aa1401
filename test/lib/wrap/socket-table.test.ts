import { expect, test } from "bun:test";
import { optionKey, SocketTable } from "../../../lib/wrap/socket-table.ts";

test("a listener is found by each of its cookies until it is removed", () => {
  const table = new SocketTable<string>();
  table.addListener("a", [1n, 2n]);
  table.addListener("b", [3n]);
  expect([table.listener(1n), table.listener(2n), table.listener(3n)]).toEqual(["a", "a", "b"]);
  table.removeListener("a");
  expect([table.listener(1n), table.listener(2n), table.listener(3n)]).toEqual([undefined, undefined, "b"]);
});

test("options are kept by socket, level and name", () => {
  const table = new SocketTable<string>();
  table.setOption(1n, optionKey(6, 1), Uint8Array.of(1));
  table.setOptions(1n, new Map([[optionKey(0, 1), Uint8Array.of(2)]]));
  expect(table.option(1n, optionKey(6, 1))).toEqual(Uint8Array.of(1));
  expect(table.option(1n, optionKey(0, 1))).toEqual(Uint8Array.of(2));
  expect(table.option(2n, optionKey(6, 1))).toBeUndefined();
});

test("options of very many sockets are bounded, the oldest goes first", () => {
  const table = new SocketTable<string>();
  for (let cookie = 0n; cookie <= 65_536n; cookie++) table.setOption(cookie, 1, Uint8Array.of(1));
  expect(table.option(0n, 1)).toBeUndefined();
  expect(table.option(65_536n, 1)).toBeDefined();
});

test("sockets with the same options share them, and one that sets another keeps it to itself", () => {
  const table = new SocketTable<string>();
  for (const cookie of [1n, 2n, 3n]) for (const key of [7, 8]) table.setOption(cookie, key, Uint8Array.of(1));
  expect(table.options(1n)).toBe(table.options(2n));
  table.setOption(2n, 8, Uint8Array.of(0));
  expect([1n, 2n, 3n].map((cookie) => table.option(cookie, 8)?.[0])).toEqual([1, 0, 1]);
  table.setOption(2n, 8, Uint8Array.of(1));
  expect(table.options(2n)).toBe(table.options(3n));
});

test("an answer is owed until it was given", () => {
  const table = new SocketTable<string>();
  table.expectAcknowledgement(5n);
  expect(table.owesAcknowledgement(5n)).toBe(true);
  table.acknowledge(5n);
  expect(table.owesAcknowledgement(5n)).toBe(false);
});

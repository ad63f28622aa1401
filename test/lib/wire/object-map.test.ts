/** Ids: who may use which, and when again. */
import { expect, test } from "bun:test";
import type { ObjectId } from "../../../lib/util/brand.ts";
import { DISPLAY_ID, isClientId, ObjectMap } from "../../../lib/wire/object-map.ts";

test("ObjectMap allocates densely from the range of its side", () => {
  const client = new ObjectMap<string>({ side: "client" });
  const server = new ObjectMap<string>({ side: "server" });
  expect([client.allocate("a"), client.allocate("b")] as number[]).toEqual([2, 3]);
  expect([server.allocate("a"), server.allocate("b")] as number[]).toEqual([0xff000000, 0xff000001]);
});

test("ObjectMap reuses an id of its own only after it was released", () => {
  const map = new ObjectMap<string>({ side: "client" });
  const first = map.allocate("a");
  expect(map.bury(first)).toBe(true);
  expect(map.get(first)).toBeUndefined();
  expect(map.getZombie(first)).toBe("a");
  expect(map.allocate("b")).not.toBe(first);
  expect(map.release(first)).toBe(true);
  expect(map.getZombie(first)).toBeUndefined();
  expect(map.allocate("c")).toBe(first);
});

test("ObjectMap takes ids of the other range only, and each once", () => {
  const server = new ObjectMap<string>({ side: "server" });
  server.addDisplay("display");
  expect(server.insert(2, "a")).toBe("inserted");
  expect(server.insert(2, "b")).toBe("in-use");
  expect(server.insert(0xfeffffff, "last")).toBe("inserted");
  for (const id of [0, DISPLAY_ID, 0xff000000, 0xffffffff]) expect(server.insert(id, "x")).toBe("wrong-range");
  const client = new ObjectMap<string>({ side: "client" });
  expect(client.insert(2, "a")).toBe("wrong-range");
  expect(client.insert(0xff000000, "a")).toBe("inserted");
});

test("ObjectMap lets the peer reuse a zombie of its own, and releases each id once", () => {
  const server = new ObjectMap<string>({ side: "server" });
  server.insert(2, "old");
  server.bury(2);
  expect(server.bury(2)).toBe(false);
  expect(server.insert(2, "new")).toBe("inserted");
  expect(server.getZombie(2)).toBeUndefined();
  expect(server.release(2 as ObjectId)).toBe(true);
  expect(server.release(2 as ObjectId)).toBe(false);
  expect(server.size).toBe(0);
});

test("ObjectMap forgets the oldest zombie above its limit and never reuses that id", () => {
  const server = new ObjectMap<number>({ side: "server", maxZombies: 2 });
  const ids = [0, 1, 2].map((value) => server.allocate(value));
  for (const id of ids) server.bury(id);
  expect(ids.map((id) => server.getZombie(id))).toEqual([undefined, 1, 2]);
  expect(server.release(ids[0] as ObjectId)).toBe(false);
  expect(ids).not.toContain(server.allocate(3));
});

test("isClientId() knows the borders of the client's range", () => {
  expect([0, 1, 2, 0xfeffffff, 0xff000000].map(isClientId)).toEqual([false, false, true, true, false]);
});

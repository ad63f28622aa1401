import { expect, test } from "bun:test";
import { type TouchedMirror, TouchedSockets } from "../../../lib/wrap/touched.ts";

const MOST = 65_536;

function makeMirror(room: number): TouchedMirror & { readonly has: Set<bigint>; readonly noted: bigint[] } {
  const has = new Set<bigint>();
  const noted: bigint[] = [];
  return {
    has,
    noted,
    add: (cookie) => has.size < room && has.add(cookie) === has,
    remove: () => undefined, // it may keep what does not count any more
    put(cookies) {
      has.clear();
      for (const cookie of cookies) has.add(cookie);
    },
    takeNoted(visit) {
      for (const cookie of noted.splice(0)) visit(cookie);
    },
  };
}

test("TouchedSockets tells a mirror what was there before it, and what comes", () => {
  const touched = new TouchedSockets();
  touched.add(1n, "tcp");
  const mirror = makeMirror(8);
  touched.mirror(mirror);
  touched.add(2n, "tcp");
  expect([...mirror.has]).toEqual([1n, 2n]);
});

test("TouchedSockets fills a mirror that is full of what does not count any more anew", () => {
  const touched = new TouchedSockets();
  const mirror = makeMirror(3);
  touched.mirror(mirror);
  for (const cookie of [1n, 2n, 3n]) touched.add(cookie, "tcp");
  for (const cookie of [1n, 2n, 3n]) touched.delete(cookie);
  touched.add(4n, "tcp");
  expect([...mirror.has]).toEqual([4n]);
  expect([touched.isAny, touched.of(4n), touched.of(3n)]).toEqual([true, "tcp", undefined]);
});

test("TouchedSockets learns what its mirror was told, and forgets the oldest of too many", () => {
  const touched = new TouchedSockets();
  const mirror = makeMirror(MOST * 2);
  touched.mirror(mirror);
  mirror.noted.push(1n, 2n);
  touched.takeNoted();
  expect([touched.of(1n), touched.of(2n)]).toEqual(["common", "common"]);
  for (let cookie = 3; cookie <= MOST + 1; cookie++) touched.add(BigInt(cookie), "tcp");
  expect([touched.of(1n), touched.of(2n)]).toEqual([undefined, "common"]);
});

test("TouchedSockets keeps what only TCP has, whatever is set besides", () => {
  const touched = new TouchedSockets();
  touched.add(1n, "common");
  touched.add(1n, "tcp");
  touched.add(1n, "common");
  expect(touched.of(1n)).toBe("tcp");
});

test("TouchedSockets knows which unusual options were set, not more than some, until another socket takes the place", () => {
  const touched = new TouchedSockets();
  touched.addUnusual(1n, 100);
  for (let key = 0; key < 1000; key++) touched.addUnusual(2n, key);
  expect([touched.of(1n), [...touched.unusual(1n)], touched.unusual(2n).size]).toEqual(["tcp", [100], 16]);
  for (let cookie = 3; cookie <= MOST + 1; cookie++) touched.add(BigInt(cookie), "tcp");
  touched.delete(2n);
  expect([...touched.unusual(1n), ...touched.unusual(2n)]).toEqual([]);
});

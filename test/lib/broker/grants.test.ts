import { expect, test } from "bun:test";
import fc from "fast-check";
import { coversName, GrantSet } from "../../../lib/broker/grants.ts";
import { matchGlob } from "../../../lib/policy/glob.ts";

const DIAL = 1;
const LISTEN = 2;
const DELEGATE = 32;

function make(parent: GrantSet | undefined, ...grants: (readonly [rights: number, name: string])[]): GrantSet {
  const set = new GrantSet(parent);
  for (const [rights, name] of grants) expect(set.add({ rights, name })).toBe(true);
  return set;
}

test("a right is for the names of its pattern, and for nothing else", () => {
  const set = make(undefined, [DIAL, "db"], [LISTEN, "web/*"]);
  expect(set.allows("dial", "db")).toBe(true);
  expect(set.allows("listen", "db")).toBe(false);
  expect(set.allows("listen", "web/a")).toBe(true);
  expect(set.allows("dial", "web/a")).toBe(false);
  expect(new GrantSet(undefined).allows("dial", "db")).toBe(false);
});

test("what is passed on is less: only with delegate, only rights and names that one has", () => {
  const parent = make(undefined, [DIAL | DELEGATE, "web/*"], [LISTEN, "web/*"]);
  const child = make(parent, [DIAL, "web/a*"]);
  expect(child.allows("dial", "web/ab")).toBe(true);
  for (const [rights, name] of [
    [LISTEN, "web/a"],
    [DIAL | LISTEN, "web/a"],
    [DIAL, "db"],
    [DIAL, "*"],
    [DIAL, "?eb/*"],
  ] as const)
    expect(new GrantSet(parent).add({ rights, name })).toBe(false);
  expect(new GrantSet(child).add({ rights: DIAL, name: "web/ab" })).toBe(false); // it was not given delegate
});

test("what is revoked is gone all the way down", () => {
  const parent = make(undefined, [DIAL | LISTEN | DELEGATE, "*"]);
  const child = make(parent, [DIAL | LISTEN | DELEGATE, "*"]);
  const grandchild = make(child, [DIAL | LISTEN, "db"]);
  expect(parent.revoke(DIAL, "*")).toEqual([{ rights: DIAL, name: "*" }]);
  for (const set of [parent, child, grandchild]) {
    expect(set.allows("dial", "db")).toBe(false);
    expect(set.allows("listen", "db")).toBe(true);
  }
  expect(child.revoke(LISTEN, "db")).toEqual([]); // that is not how it was granted
  expect(child.revoke(255, "").length).toBe(1);
  expect(grandchild.allows("listen", "db")).toBe(false);
  expect(parent.allows("listen", "db")).toBe(true);
  expect(grandchild.descendsFrom(parent)).toBe(true);
  expect(parent.descendsFrom(grandchild)).toBe(false);
});

test("coversName() never says that a pattern is covered of which a name is not", () => {
  const pattern = fc.stringMatching(/^[ab*?]{1,5}$/);
  const name = fc.stringMatching(/^[ab]{1,7}$/);
  fc.assert(
    fc.property(pattern, pattern, fc.array(name, { minLength: 20, maxLength: 40 }), (outer, inner, names) => {
      if (!coversName(outer, inner)) return;
      for (const each of names) if (matchGlob(inner, each)) expect(matchGlob(outer, each)).toBe(true);
    }),
    { numRuns: 5000 },
  );
});

const SEND = 64;
const RECEIVE = 128;

test("who may dial or listen may do both in the channels, unless one direction is named; less is never passed on as more", () => {
  const both = make(undefined, [DIAL | DELEGATE, "a"], [LISTEN | DELEGATE, "b"]);
  for (const name of ["a", "b"])
    for (const right of ["send", "receive"] as const) expect(both.allows(right, name)).toBe(true);
  const sender = make(both, [DIAL | SEND | DELEGATE, "a"]);
  expect(sender.allows("send", "a")).toBe(true);
  expect(sender.allows("receive", "a")).toBe(false);
  for (const rights of [DIAL, DIAL | RECEIVE, DIAL | SEND | RECEIVE, RECEIVE])
    expect(new GrantSet(sender).add({ rights, name: "a" })).toBe(false);
  const last = make(sender, [DIAL | SEND, "a"]);
  expect(last.allows("send", "a")).toBe(true);
  both.revoke(SEND, "");
  expect(last.allows("send", "a")).toBe(false);
  expect(last.allows("dial", "a")).toBe(true);
});

test("rights on a name add up, also those that dial or listen means by itself", () => {
  const set = make(undefined, [DIAL | SEND, "log"]);
  expect(set.allows("receive", "log")).toBe(false);
  set.add({ rights: LISTEN, name: "*" });
  expect(set.allows("receive", "log")).toBe(true);
});

test("what is taken away before anybody has it was taken from nobody, however often", () => {
  const grants = new GrantSet(undefined);
  for (const name of ["a", "b"]) {
    grants.add({ rights: LISTEN, name });
    expect(grants.revoke(LISTEN, name)).toHaveLength(1);
  }
  expect(grants.revoked).toEqual([]);
  grants.add({ rights: LISTEN, name: "c" });
  grants.connection = 1;
  grants.revoke(LISTEN, "c");
  expect(grants.revoked).toEqual([{ rights: LISTEN, name: "c" }]);
});

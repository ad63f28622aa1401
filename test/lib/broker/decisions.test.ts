/** Decisions that are remembered are those that the policy would give now, whatever was asked before. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { decideFor } from "../../../lib/broker/decisions.ts";
import type { Owner } from "../../../lib/broker/records.ts";
import { decide } from "../../../lib/policy/decide.ts";
import type { Rule } from "../../../lib/policy/types.ts";

function owner(uid: number): Owner {
  return { pid: 1, uid, gid: 100, groups: [], exe: "/usr/bin/curl", cgroup: "/", context: undefined };
}

const OWNERS = [owner(1000), owner(1001)];
const TARGETS = [undefined, OWNERS[0], OWNERS[1]];
const RULES: readonly (readonly Rule[])[] = [
  [{ name: "same", effect: "allow", where: "file:1", criteria: { uid: ["same"] } }],
  [
    { name: "pipes", effect: "allow", where: "file:1", criteria: { fd: ["pipe"] } },
    { name: "db", effect: "deny", where: "file:2", criteria: { service: ["db"] } },
  ],
  [{ name: "dial", effect: "allow", where: "file:1", criteria: { action: ["dial"], uid: ["owner"] } }],
];

const QUESTION = fc.record({
  rules: fc.constantFrom(...RULES),
  who: fc.constantFrom(...OWNERS),
  brokerUid: fc.constantFrom(1000, 1001),
  what: fc.constantFrom("dial" as const, "take" as const),
  service: fc.constantFrom("db", "web"),
  fds: fc.constantFrom(undefined, ["pipe"], ["pipe", "memfd"], ["memfd"]),
  target: fc.constantFrom(...TARGETS),
});

test("decideFor() decides as decide() does, in any order of questions", () => {
  fc.assert(
    fc.property(fc.array(QUESTION, { minLength: 2, maxLength: 30 }), (questions) => {
      for (const { rules, who, brokerUid, what, service, fds, target } of questions) {
        const subject = { ...(fds && { fds: [...fds] }), ...(target && { target }) };
        const fresh = decide(rules, { ...who, brokerUid }, { what, service, ...subject });
        expect(decideFor({ rules, who, brokerUid, what, service, subject })).toEqual(fresh);
      }
    }),
    { numRuns: 300 },
  );
});

/** Decisions that are remembered are those that the policy would give now, whatever was asked before. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { decideFor } from "../../../lib/broker/decisions.ts";
import type { Owner } from "../../../lib/broker/records.ts";
import { decide } from "../../../lib/policy/decide.ts";
import type { FdFacts } from "../../../lib/policy/fd-facts.ts";
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
  ...[
    { family: ["inet" as const] },
    { access: ["read" as const] },
    { seals: ["write" as const] },
    { minSizeBytes: 2 },
    { maxSizeBytes: 1 },
    { exporter: ["a*"] },
  ].map((criteria): Rule[] => [{ name: "facts", effect: "allow", where: "file:1", criteria }]),
  [{ name: "dial", effect: "allow", where: "file:1", criteria: { action: ["dial"], uid: ["owner"] } }],
];

const FACT = fc.record(
  {
    type: fc.constantFrom<FdFacts["type"]>("pipe", "memfd"),
    family: fc.constantFrom<NonNullable<FdFacts["family"]>>("inet", "inet6"),
    access: fc.constantFrom<NonNullable<FdFacts["access"]>>("read", "write"),
    seals: fc.subarray<"seal" | "write">(["seal", "write"]),
    sizeBytes: fc.constantFrom(1, 2),
    exporter: fc.constantFrom("a", "b"),
  },
  { requiredKeys: ["type"] },
) as fc.Arbitrary<FdFacts>;

const QUESTION = fc.record({
  rules: fc.constantFrom(...RULES),
  who: fc.constantFrom(...OWNERS),
  brokerUid: fc.constantFrom(1000, 1001),
  what: fc.constantFrom("dial" as const, "take" as const),
  service: fc.constantFrom("db", "web"),
  fds: fc.option(fc.array(FACT, { minLength: 1, maxLength: 2 }), { nil: undefined }),
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

test("decideFor() asks again for another size where a rule names sizes, and only there", () => {
  const who = owner(1000);
  const ask = (rules: readonly Rule[], sizeBytes: number) =>
    decideFor({
      rules,
      who,
      brokerUid: 1000,
      what: "take",
      service: "x",
      subject: { fds: [{ type: "memfd", sizeBytes }] },
    });
  const rule: Rule = { name: "r", effect: "allow", where: "file:1", criteria: { fd: ["memfd"] } };
  const plain = [rule];
  const first = ask(plain, 1);
  expect(ask(plain, 2)).toBe(first);
  const sized = [{ ...rule, criteria: { maxSizeBytes: 1 } }];
  expect([ask(sized, 1), ask(sized, 2), ask(sized, 1)].map(({ kind }) => kind)).toEqual(["allow", "deny", "allow"]);
});

test("decideFor() names the type that is refused, also where no rule speaks of descriptors", () => {
  const who = owner(1000);
  const rules: readonly Rule[] = [{ name: "r", effect: "deny", where: "file:1", criteria: {} }];
  for (const type of ["memfd", "pipe"] as const) {
    const decision = decideFor({
      rules,
      who,
      brokerUid: 1000,
      what: "take",
      service: "x",
      subject: { fds: [{ type }] },
    });
    expect(decision).toMatchObject({ reason: `user 1000 may not take it as ${type}` });
  }
});

import { expect, test } from "bun:test";
import fc from "fast-check";
import { BUILT_IN_RULES } from "../../../lib/config/schema.ts";
import { decide, explain } from "../../../lib/policy/decide.ts";
import { matchGlob } from "../../../lib/policy/glob.ts";
import { unitOf } from "../../../lib/policy/match.ts";
import { type Criteria, OPERATIONS, type Peer, type Request, type Rule } from "../../../lib/policy/types.ts";

const SHOP = { engine: "podman", app: "shop", instance: "7" };

function peer(rest: Partial<Peer> = {}): Peer {
  const known = { exe: "/usr/bin/curl", cgroup: "/user.slice/user@1001.service/app.slice/web.service/x" };
  return { uid: 1001, gid: 100, groups: [27], ...known, context: undefined, brokerUid: 1000, ...rest };
}

function rule(effect: Rule["effect"], criteria: Criteria, name: string = effect): Rule {
  return { name, effect, where: "file:1", criteria };
}

const DIAL: Request = { what: "dial", service: "db.main", target: { uid: 1001, context: undefined } };

/** Whether a rule with these criteria speaks of the request, asked as the only rule. */
const TABLE: readonly (readonly [
  name: string,
  criteria: Criteria,
  peer: Partial<Peer>,
  request: Partial<Request>,
  allow: boolean,
  deny: boolean,
])[] = [
  ["no criterion speaks of everybody", {}, {}, {}, true, true],
  ["uid", { uid: [5, 1001] }, {}, {}, true, true],
  ["another uid", { uid: [5] }, {}, {}, false, false],
  ["root is nobody special", { uid: [1001] }, { uid: 0 }, {}, false, false],
  ["owner: the broker's user", { uid: ["owner"] }, { uid: 1000 }, {}, true, true],
  ["owner: root", { uid: ["owner"] }, { uid: 0 }, {}, true, true],
  ["owner: not in a context", { uid: ["owner"] }, { uid: 1000, context: SHOP }, {}, false, false],
  ["same: who offers it", { uid: ["same"] }, {}, {}, true, true],
  ["same: somebody else's", { uid: ["same"] }, {}, { target: { uid: 1, context: undefined } }, false, false],
  ["same: nobody offers it", { uid: ["same"] }, {}, { target: undefined as never }, false, false],
  ["same: in a context, not", { uid: ["same"] }, {}, { target: { uid: 1001, context: SHOP } }, false, false],
  [
    "same: the same context",
    { uid: ["same"], app: ["*"] },
    { context: SHOP },
    { target: { uid: 1001, context: { ...SHOP } } },
    true,
    true,
  ],
  [
    "same: another instance",
    { uid: ["same"], app: ["*"] },
    { context: SHOP },
    { target: { uid: 1001, context: { ...SHOP, instance: "8" } } },
    false,
    false,
  ],
  ["primary group", { gid: [100] }, {}, {}, true, true],
  ["supplementary group", { gid: [27] }, {}, {}, true, true],
  ["another group", { gid: [28] }, {}, {}, false, false],
  ["exe", { exe: ["/usr/bin/c*"] }, {}, {}, true, true],
  ["another exe", { exe: ["/usr/bin/d*"] }, {}, {}, false, false],
  ["exe that is not known counts against the peer", { exe: ["*"] }, { exe: "" }, {}, false, true],
  ["unit", { unit: ["web.service"] }, {}, {}, true, true],
  ["another unit", { unit: ["user@1001.service"] }, {}, {}, false, false],
  ["unit that is not known", { unit: ["*"] }, { cgroup: "" }, {}, false, true],
  ["cgroup", { cgroup: ["/user.slice/*"] }, {}, {}, true, true],
  ["another cgroup", { cgroup: ["/system.slice/*"] }, {}, {}, false, false],
  [
    "engine, app and instance",
    { engine: ["podman"], app: ["sh?p"], instance: ["7"] },
    { context: SHOP },
    {},
    true,
    true,
  ],
  ["another app", { app: ["bank"] }, { context: SHOP }, {}, false, false],
  ["a context is asked for, and there is none", { app: ["*"] }, {}, {}, false, false],
  ["a context, and an allow does not name one", { uid: ["any"] }, { context: SHOP }, {}, false, true],
  ["action", { action: ["take", "dial"] }, {}, {}, true, true],
  ["another action", { action: ["take"] }, {}, {}, false, false],
  ["service", { service: ["web.*", "db.*"] }, {}, {}, true, true],
  ["another service", { service: ["web.*"] }, {}, {}, false, false],
  ["connect has no service", { service: ["db.*"] }, {}, { what: "connect", service: "" }, false, false],
  ["fd types, all named", { fd: ["tcp", "unix-*"] }, {}, { what: "offer", fds: ["tcp", "unix-stream"] }, true, true],
  ["fd types, one named", { fd: ["tcp"] }, {}, { what: "offer", fds: ["tcp", "directory"] }, false, true],
  ["fd types, none named", { fd: ["pipe"] }, {}, { what: "offer", fds: ["tcp"] }, false, false],
  ["fd types that are not known yet", { fd: ["tcp"] }, {}, { what: "take" }, true, false],
  ["fd types where there are none", { fd: ["*"] }, {}, {}, false, false],
  ["all of several criteria", { uid: [1001], exe: ["/usr/bin/d"] }, {}, {}, false, false],
];

for (const [name, criteria, who, asked, allow, deny] of TABLE) {
  test(`a rule's criteria: ${name}`, () => {
    const request = { ...DIAL, ...asked };
    const everybody = rule("allow", who.context === undefined ? {} : { app: ["*"] }, "all");
    expect(decide([rule("allow", criteria)], peer(who), request).kind).toBe(allow ? "allow" : "deny");
    expect(decide([everybody, rule("deny", criteria)], peer(who), request).kind).toBe(deny ? "deny" : "allow");
  });
}

test("the built-in rules let the owner and root do everything, and others nothing", () => {
  for (const what of OPERATIONS) {
    const request = { what, service: "x", fds: ["memfd", "unix-listener"] };
    for (const uid of [0, 1000]) expect(decide(BUILT_IN_RULES, peer({ uid }), request).kind).toBe("allow");
    expect(decide(BUILT_IN_RULES, peer(), request).kind).toBe("deny");
    expect(decide(BUILT_IN_RULES, peer({ uid: 0, context: SHOP }), request).kind).toBe("deny");
  }
  const directory = { what: "offer", service: "x", fds: ["directory"] } as const;
  expect(decide(BUILT_IN_RULES, peer({ uid: 0 }), directory)).toEqual({
    kind: "deny",
    rule: "default",
    where: "built in",
    reason: "no rule allows user 0 to offer it as directory",
  });
});

test("a refusal names the rule and where it stands", () => {
  const rules = [rule("allow", { uid: ["any"] }), rule("deny", { service: ["db.*"] }, "no-db")];
  const reason = "user 1001 may not dial it";
  expect(decide(rules, peer(), DIAL)).toEqual({ kind: "deny", rule: "no-db", where: "file:1", reason });
});

test("a refusal to listen, or to make a context, is a sentence", () => {
  const reasonOf = (what: "listen" | "context"): string | undefined => {
    const decision = decide([rule("deny", { uid: ["any"] })], peer(), { what, service: "db.x" });
    return decision.kind === "deny" ? decision.reason : undefined;
  };
  expect(reasonOf("listen")).toBe("user 1001 may not listen under it");
  expect(reasonOf("context")).toBe("user 1001 may not make it a context");
});

test("explain() says of every rule what does not fit, those that refuse first", () => {
  const rules = [
    rule("allow", { uid: [1001] }),
    rule("deny", { exe: ["/bin/sh"] }),
    rule("allow", { action: ["list"] }),
  ];
  expect(explain(rules, peer(), DIAL).map(({ rule: { effect }, mismatch }) => [effect, mismatch])).toEqual([
    ["deny", "exe"],
    ["allow", undefined],
    ["allow", "action"],
  ]);
});

test("unitOf() finds the innermost unit that is no slice", () => {
  expect(unitOf("/user.slice/user-1000.slice/user@1000.service/app.slice/foo.scope")).toBe("foo.scope");
  expect(unitOf("/user.slice/user-1000.slice")).toBe("");
  expect(unitOf("/system.slice/db.service/payload")).toBe("db.service");
});

test("the order of the rules never matters, and nothing is allowed that no allow rule speaks of", () => {
  const criteria = fc.record(
    {
      uid: fc.array(fc.constantFrom<"owner" | "any" | number>("owner", "any", 1001), { minLength: 1 }),
      service: fc.array(fc.constantFrom("*", "a*", "?b"), { minLength: 1 }),
      action: fc.array(fc.constantFrom(...OPERATIONS), { minLength: 1 }),
      exe: fc.array(fc.constantFrom("*", "/usr/*"), { minLength: 1 }),
    },
    { requiredKeys: [] },
  );
  const anyRule = fc.tuple(fc.constantFrom<"allow" | "deny">("allow", "deny"), criteria);
  const request = fc.record({ what: fc.constantFrom(...OPERATIONS), service: fc.constantFrom("", "a", "ab", "b") });
  fc.assert(
    fc.property(fc.array(anyRule), fc.constantFrom(0, 1000, 1001), request, (pairs, uid, asked) => {
      const rules = pairs.map(([effect, found]) => rule(effect, found as Criteria));
      const fits = (one: Rule): boolean => decide([{ ...one, effect: "allow" }], peer({ uid }), asked).kind === "allow";
      const expected = rules.some((one) => one.effect === "deny" && fits(one))
        ? "deny"
        : rules.some((one) => one.effect === "allow" && fits(one))
          ? "allow"
          : "deny";
      expect(decide(rules, peer({ uid }), asked).kind).toBe(expected);
      expect(decide([...rules].reverse(), peer({ uid }), asked).kind).toBe(expected);
    }),
  );
});
test("matchGlob() agrees with the regular expression that the glob stands for", () => {
  const pattern = fc.stringMatching(/^[ab*?]{0,12}$/);
  fc.assert(
    fc.property(pattern, fc.stringMatching(/^[ab]{0,14}$/), (glob, name) => {
      const expression = new RegExp(`^${glob.replaceAll("*", ".*").replaceAll("?", ".")}$`);
      expect(matchGlob(glob, name)).toBe(expression.test(name));
    }),
    { numRuns: 1000 },
  );
});

test("matchGlob() takes no letter of a pattern for anything but itself", () => {
  expect(matchGlob("a.c", "abc")).toBe(false);
  expect(matchGlob("[ab]", "a")).toBe(false);
  expect(matchGlob("*".repeat(100), "x".repeat(100))).toBe(true);
  expect(matchGlob(`${"*a".repeat(60)}b`, "a".repeat(128))).toBe(false); // a backtracking matcher would never end
});

import { expect, test } from "bun:test";
import fc from "fast-check";
import { BUILT_IN_RULES } from "../../../lib/config/schema.ts";
import { decide, explain } from "../../../lib/policy/decide.ts";
import type { Access, Family, FdFacts, FdType, Seal } from "../../../lib/policy/fd-facts.ts";
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

const TCP: FdFacts = { type: "tcp", family: "inet", access: "read-write" };
const PIPE: FdFacts = { type: "pipe", access: "read" };
const FILE: FdFacts = { type: "file", access: "read", sizeBytes: 100 };
const SEALED: FdFacts = { type: "memfd", access: "read-write", sizeBytes: 4096, seals: ["shrink", "write"] };
const DMA_BUF: FdFacts = { type: "dma-buf", access: "read-write", sizeBytes: 8192, exporter: "i915" };

function offer(...fds: readonly FdFacts[]): Request {
  return { what: "offer", service: "x", fds };
}

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
  [
    "fd types, all named",
    { fd: ["tcp", "unix-*"] },
    {},
    { what: "offer", fds: [TCP, { type: "unix-stream" }] },
    true,
    true,
  ],
  ["fd types, one named", { fd: ["tcp"] }, {}, { what: "offer", fds: [TCP, { type: "directory" }] }, false, true],
  ["fd types, none named", { fd: ["pipe"] }, {}, { what: "offer", fds: [TCP] }, false, false],
  ["fd types that are not known yet", { fd: ["tcp"] }, {}, { what: "take" }, true, false],
  ["fd types where there are none", { fd: ["*"] }, {}, {}, false, false],
  ["a family", { family: ["inet"] }, {}, offer(TCP), true, true],
  ["IPv6 is not IPv4", { family: ["inet"] }, {}, offer({ ...TCP, family: "inet6" }), false, false],
  ["a family of several", { family: ["inet", "inet6"] }, {}, offer(TCP), true, true],
  ["a pipe has no family", { family: ["other"] }, {}, offer(PIPE), false, false],
  ["access", { access: ["read"] }, {}, offer(PIPE, FILE), true, true],
  ["access of one", { access: ["read"] }, {}, offer(PIPE, TCP), false, true],
  ["seals, all there", { seals: ["write", "shrink"] }, {}, offer(SEALED), true, true],
  ["seals, one missing", { seals: ["write", "grow"] }, {}, offer(SEALED), false, false],
  ["a file has no seals", { seals: ["write"] }, {}, offer(FILE), false, false],
  ["a size that is the most", { maxSizeBytes: 4096 }, {}, offer(SEALED), true, true],
  ["a size above it", { maxSizeBytes: 4095 }, {}, offer(SEALED), false, false],
  ["a size that is the least", { minSizeBytes: 4096 }, {}, offer(SEALED), true, true],
  ["a size below it", { minSizeBytes: 4097 }, {}, offer(SEALED), false, false],
  ["a pipe has no size", { minSizeBytes: 0, maxSizeBytes: 9 }, {}, offer(PIPE), false, false],
  ["an exporter", { exporter: ["i9*"] }, {}, offer(DMA_BUF), true, true],
  ["another exporter", { exporter: ["amdgpu"] }, {}, offer(DMA_BUF), false, false],
  ["a memfd has no exporter", { exporter: ["*"] }, {}, offer(SEALED), false, false],
  ["two keys, of the same descriptor", { fd: ["memfd"], access: ["read-write"] }, {}, offer(PIPE, SEALED), false, true],
  ["two keys, of one descriptor each", { fd: ["memfd"], access: ["read"] }, {}, offer(PIPE, SEALED), false, false],
  ["descriptors that are not known yet", { seals: ["write"], maxSizeBytes: 1 }, {}, { what: "take" }, true, false],
  ["descriptors where there are none", { access: ["read"] }, {}, {}, false, false],
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
    const request: Request = { what, service: "x", fds: [{ type: "memfd" }, { type: "unix-listener" }] };
    for (const uid of [0, 1000]) expect(decide(BUILT_IN_RULES, peer({ uid }), request).kind).toBe("allow");
    expect(decide(BUILT_IN_RULES, peer(), request).kind).toBe("deny");
    expect(decide(BUILT_IN_RULES, peer({ uid: 0, context: SHOP }), request).kind).toBe("deny");
  }
  const directory: Request = { what: "offer", service: "x", fds: [{ type: "directory" }] };
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
  const reasonOf = (what: Request["what"], service = ""): string | undefined => {
    const decision = decide([rule("deny", { uid: ["any"] })], peer(), { what, service });
    return decision.kind === "deny" ? decision.reason : undefined;
  };
  expect(reasonOf("listen", "db.x")).toBe("user 1001 may not listen under it");
  expect(reasonOf("context", "e/a/i")).toBe("user 1001 may not create it");
  expect((["listen", "context", "register", "resolve", "dial"] as const).map((what) => reasonOf(what))).toEqual([
    "user 1001 may not listen",
    "user 1001 may not create a context",
    "user 1001 may not register a listener",
    "user 1001 may not resolve an address",
    "user 1001 may not dial",
  ]);
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

test("an allow fits when each descriptor fits all its keys, a deny when one of them does", () => {
  const some = <T>(...values: readonly T[]): fc.Arbitrary<T[]> => fc.subarray([...values], { minLength: 1 });
  const criteria = fc.record(
    {
      fd: some("memfd", "tcp", "*"),
      family: some<Family>("inet", "inet6"),
      access: some<Access>("read", "read-write"),
      seals: some<Seal>("write", "grow"),
      minSizeBytes: fc.nat(3),
      maxSizeBytes: fc.nat(3),
      exporter: some("a*", "b"),
    },
    { requiredKeys: [] },
  );
  const fact = fc.record(
    {
      type: fc.constantFrom<FdType>("memfd", "tcp", "dma-buf"),
      family: fc.constantFrom<Family>("inet", "inet6"),
      access: fc.constantFrom<Access>("read", "read-write"),
      sizeBytes: fc.nat(3),
      seals: fc.subarray<Seal>(["write", "grow", "seal"]),
      exporter: fc.constantFrom("a", "ab", "b", ""),
    },
    { requiredKeys: ["type"] },
  );
  const isNamed = (globs: readonly string[], text: string | undefined): boolean =>
    text !== undefined && globs.some((glob) => new RegExp(`^${glob.replaceAll("*", ".*")}$`).test(text));
  fc.assert(
    fc.property(criteria, fc.array(fact, { minLength: 1, maxLength: 3 }), (asked, fds) => {
      const fits = fds.map((fd) =>
        [
          asked.fd === undefined || isNamed(asked.fd, fd.type),
          asked.family === undefined || (fd.family !== undefined && asked.family.includes(fd.family)),
          asked.access === undefined || (fd.access !== undefined && asked.access.includes(fd.access)),
          asked.seals === undefined || asked.seals.every((seal) => (fd.seals ?? []).includes(seal)),
          asked.minSizeBytes === undefined || (fd.sizeBytes !== undefined && fd.sizeBytes >= asked.minSizeBytes),
          asked.maxSizeBytes === undefined || (fd.sizeBytes !== undefined && fd.sizeBytes <= asked.maxSizeBytes),
          asked.exporter === undefined || isNamed(asked.exporter, fd.exporter),
        ].every(Boolean),
      );
      const found = asked as Criteria;
      const [allow, deny] = [rule("allow", found), rule("deny", found)];
      const everybody = rule("allow", {}, "all");
      expect(decide([allow], peer(), offer(...fds)).kind).toBe(fits.every(Boolean) ? "allow" : "deny");
      expect(decide([everybody, deny], peer(), offer(...fds)).kind).toBe(fits.some(Boolean) ? "deny" : "allow");
    }),
    { numRuns: 1000 },
  );
});

test("explain() names the first key that no descriptor fits together with those before it", () => {
  const criteria: Criteria = { fd: ["memfd", "file"], access: ["read-write"], maxSizeBytes: 100 };
  const why = (effect: Rule["effect"]): unknown =>
    explain([rule(effect, criteria)], peer(), offer(FILE, SEALED))[0]?.mismatch;
  expect(why("deny")).toBe("maxSizeBytes"); // the file is small enough, but it is the memfd that can be written
  expect(why("allow")).toBe("access");
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

import { expect, test } from "bun:test";
import fc from "fast-check";
import { BUILT_IN_RULES } from "../../../lib/config/schema.ts";
import { decide } from "../../../lib/policy/decide.ts";
import { matchGlob } from "../../../lib/policy/glob.ts";
import { OPERATIONS, type Operation, type Rule } from "../../../lib/policy/types.ts";

const OWNER = { uid: 1000, brokerUid: 1000 };
const OTHER = { uid: 1001, brokerUid: 1000 };
const ROOT = { uid: 0, brokerUid: 1000 };

function rule(name: string, rest: Partial<Rule> = {}): Rule {
  return { name, action: "allow", who: ["any"], what: ["dial"], service: "*", ...rest };
}

test("the built-in rules let the owner and root do everything, and others nothing", () => {
  for (const what of OPERATIONS) {
    for (const peer of [OWNER, ROOT]) {
      expect(decide(BUILT_IN_RULES, peer, { what, service: "x" })).toEqual({ kind: "allow", rule: "owner" });
    }
    const refused = decide(BUILT_IN_RULES, OTHER, { what, service: "x" });
    expect(refused).toEqual({ kind: "deny", rule: "default", reason: `no rule allows user 1001 to ${what} it` });
  }
});

test("the first rule that fits decides, and a refusal names it", () => {
  const rules = [
    rule("no-secrets", { action: "deny", service: "secret.*" }),
    rule("all", {}),
    rule("late", { action: "deny" }),
  ];
  expect(decide(rules, OTHER, { what: "dial", service: "files" })).toEqual({ kind: "allow", rule: "all" });
  const refused = decide(rules, OWNER, { what: "dial", service: "secret.keys" });
  expect(refused).toEqual({ kind: "deny", rule: "no-secrets", reason: "user 1000 may not dial it" });
});

test("a rule with a glob does not speak of connect, which names no service", () => {
  const rules = [rule("metrics", { what: ["connect", "dial"], service: "metrics.*" })];
  expect(decide(rules, OTHER, { what: "connect", service: "" })).toEqual({
    kind: "deny",
    rule: "default",
    reason: "no rule allows user 1001 to connect",
  });
});

test("a uid in who means that user and nobody else", () => {
  const rules = [rule("one", { who: [1001] })];
  expect(decide(rules, OTHER, { what: "dial", service: "x" }).kind).toBe("allow");
  expect(decide(rules, ROOT, { what: "dial", service: "x" }).kind).toBe("deny");
});

test("decide() allows only what some allow rule speaks of, whatever the rules", () => {
  const subjects = fc.constantFrom<"owner" | "any" | number>("owner", "any", 1001, 0);
  const anyRule = fc.record({
    name: fc.string(),
    action: fc.constantFrom<"allow" | "deny">("allow", "deny"),
    who: fc.array(subjects),
    what: fc.subarray<Operation>([...OPERATIONS]),
    service: fc.constantFrom("*", "a*", "?b", "ab"),
  });
  const request = fc.record({ what: fc.constantFrom(...OPERATIONS), service: fc.constantFrom("", "a", "ab", "b") });
  fc.assert(
    fc.property(fc.array(anyRule), fc.constantFrom(OWNER, OTHER, ROOT), request, (rules, peer, asked) => {
      const decision = decide(rules, peer, asked);
      const first = rules.find(
        ({ who, what, service }) =>
          what.includes(asked.what) &&
          who.some((one) => one === "any" || one === peer.uid || (one === "owner" && peer.uid !== 1001)) &&
          new RegExp(`^${service.replaceAll("*", ".*").replaceAll("?", ".")}$`).test(asked.service),
      );
      expect(decision.kind).toBe(first?.action ?? "deny");
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

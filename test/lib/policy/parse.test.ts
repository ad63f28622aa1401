import { expect, test } from "bun:test";
import { parseRules } from "../../../lib/policy/parse.ts";

const GOOD = { name: "r", action: "allow", who: ["owner", 1000], what: ["dial"], service: "a*" };

function complaints(table: object): string[] {
  return parseRules([table]).problems.map(({ path, message }) => `${path.join(".")}: ${message}`);
}

test("a whole rule is taken as it is, without a service it is for all", () => {
  expect(parseRules([GOOD])).toEqual({ rules: [GOOD as never], problems: [] });
  const { service: _, ...rest } = GOOD;
  expect(parseRules([{ ...rest, who: "any" }]).rules[0]).toMatchObject({ service: "*", who: ["any"] });
});

test("a wrong value is reported with the rule and the key", () => {
  expect(complaints({ ...GOOD, action: "alow" })).toEqual([
    'rule.0.action: rule "r": action is "alow": "allow" or "deny" is wanted',
  ]);
  expect(complaints({ ...GOOD, who: ["owners"] })[0]).toContain('rule.0.who: rule "r": who is ["owners"]');
  expect(complaints({ ...GOOD, who: [] })[0]).toContain("who is []");
  expect(complaints({ ...GOOD, who: -1 })[0]).toContain("who is -1");
  expect(complaints({ ...GOOD, what: ["dail"] })[0]).toEndWith('is wanted: did you mean "dial"?');
  expect(complaints({ ...GOOD, what: "dial" })[0]).toContain('what is "dial": a list of');
  expect(complaints({ ...GOOD, service: 3 })[0]).toContain("service is 3");
  expect(complaints({ ...GOOD, srevice: "x" })).toEqual([
    'rule.0.srevice: rule "r": unknown key "srevice": did you mean "service"?',
  ]);
});

test("a rule without a name is reported by its number, with everything that it lacks", () => {
  const messages = complaints({});
  expect(messages.length).toBe(4);
  expect(messages[0]).toBe("rule.0.name: rule 1: name is missing: 1 to 64 of A-Z a-z 0-9 . _ - are wanted");
});

test("two rules of one name, the reserved name, and what is no list of tables are refused", () => {
  expect(parseRules([GOOD, GOOD]).problems[0]?.path).toEqual(["rule", 1, "name"]);
  expect(complaints({ ...GOOD, name: "default" })[0]).toContain("stands for the refusal");
  expect(parseRules("x").problems[0]?.message).toContain("[[rule]]");
  expect(parseRules([3]).problems[0]?.message).toContain("rule 1 is not a table");
});

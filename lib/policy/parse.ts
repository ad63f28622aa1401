/** The `[[rule]]` tables of a configuration file → rules. Reports every problem, each with its place; throws nothing. */
import { suggest } from "../util/suggest.ts";
import { DEFAULT_DENY } from "./decide.ts";
import { OPERATIONS, type Operation, type Problem, type Rule, type Subject } from "./types.ts";

const KEYS = ["name", "action", "who", "what", "service"] as const;
const MAX_UID = 0xfffffffe; // (uid_t) -1 means nobody
const RULE_NAME = /^[A-Za-z0-9._-]{1,64}$/;

export type ParsedRules = { readonly rules: readonly Rule[]; readonly problems: readonly Problem[] };

/** @param value  what the document has under "rule" */
export function parseRules(value: unknown): ParsedRules {
  if (!Array.isArray(value)) {
    return { rules: [], problems: [{ path: ["rule"], message: "rule is not a list of tables: write [[rule]]" }] };
  }
  const problems: Problem[] = [];
  const rules: Rule[] = [];
  for (const [index, table] of value.entries()) {
    const rule = parseRule(table, index, problems);
    if (rule === undefined) continue;
    if (rules.some(({ name }) => name === rule.name)) {
      problems.push({ path: ["rule", index, "name"], message: `rule "${rule.name}": another rule has this name` });
    }
    rules.push(rule);
  }
  return { rules, problems };
}

function parseRule(table: unknown, index: number, problems: Problem[]): Rule | undefined {
  if (!isTable(table)) {
    problems.push({ path: ["rule", index], message: `rule ${index + 1} is not a table: write [[rule]]` });
    return undefined;
  }
  const before = problems.length;
  const label = typeof table["name"] === "string" ? `rule "${table["name"]}"` : `rule ${index + 1}`;
  const report = (key: string, message: string): void => {
    problems.push({ path: ["rule", index, key], message: `${label}: ${message}` });
  };
  for (const key of Object.keys(table)) {
    if (!KEYS.some((known) => known === key)) report(key, `unknown key "${key}"${suggest(key, KEYS)}`);
  }
  const rule: Rule = {
    name: parseName(table["name"], report),
    action: parseAction(table["action"], report),
    who: parseWho(table["who"], report),
    what: parseWhat(table["what"], report),
    service: parseService(table["service"], report),
  };
  return problems.length === before ? rule : undefined;
}

type Report = (key: string, message: string) => void;

function isTable(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function show(value: unknown): string {
  return value === undefined
    ? "missing"
    : (JSON.stringify(value, (_, part) => (typeof part === "bigint" ? String(part) : part)) ?? "?");
}

function parseName(value: unknown, report: Report): string {
  if (typeof value === "string" && RULE_NAME.test(value) && value !== DEFAULT_DENY) return value;
  const why =
    value === DEFAULT_DENY ? "it stands for the refusal without a rule" : "1 to 64 of A-Z a-z 0-9 . _ - are wanted";
  report("name", `name is ${show(value)}: ${why}`);
  return "";
}

function parseAction(value: unknown, report: Report): Rule["action"] {
  if (value === "allow" || value === "deny") return value;
  report("action", `action is ${show(value)}: "allow" or "deny" is wanted`);
  return "deny";
}

function parseWho(value: unknown, report: Report): readonly Subject[] {
  const list = Array.isArray(value) ? value : [value];
  if (list.length > 0 && list.every(isSubject)) return list;
  report("who", `who is ${show(value)}: "owner", "any", a user id or a list of these is wanted`);
  return [];
}

function isSubject(value: unknown): value is Subject {
  if (value === "owner" || value === "any") return true;
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= MAX_UID;
}

function parseWhat(value: unknown, report: Report): readonly Operation[] {
  if (Array.isArray(value) && value.length > 0 && value.every(isOperation)) return value;
  const wrong = Array.isArray(value) ? value.find((item) => !isOperation(item)) : undefined;
  const hint = typeof wrong === "string" ? suggest(wrong, OPERATIONS) : "";
  report("what", `what is ${show(value)}: a list of "${OPERATIONS.join('", "')}" is wanted${hint}`);
  return [];
}

function isOperation(value: unknown): value is Operation {
  return OPERATIONS.some((operation) => operation === value);
}

function parseService(value: unknown, report: Report): string {
  if (value === undefined) return "*";
  if (typeof value === "string" && value.length >= 1 && value.length <= 128) return value;
  report("service", `service is ${show(value)}: a glob of 1 to 128 characters is wanted`);
  return "";
}

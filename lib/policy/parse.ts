/** The `[[allow]]` and `[[deny]]` tables of a configuration file → rules. Reports every problem, each with its place;
 *  throws nothing. */
import { suggest } from "../util/suggest.ts";
import { DEFAULT_DENY } from "./decide.ts";
import { ACCESSES, FAMILIES, FD_TYPES, SEALS } from "./fd-facts.ts";
import { matchGlob } from "./glob.ts";
import { type Criteria, OPERATIONS, type Problem, type Rule, type Subject } from "./types.ts";

const WHO = ["uid", "gid", "user", "exe", "unit", "cgroup", "engine", "app", "instance"] as const;
/** Of which the values are known. */
const WORDS: Readonly<Record<string, readonly string[]>> = {
  action: OPERATIONS,
  family: FAMILIES,
  access: ACCESSES,
  seals: SEALS,
};
const SIZES = ["minSizeBytes", "maxSizeBytes"] as const;
const GLOBS = ["exe", "unit", "cgroup", "engine", "app", "instance", "service", "exporter"] as const;
const KEYS = ["name", "uid", "gid", "user", "fd", ...GLOBS, ...Object.keys(WORDS), ...SIZES];
const MAX_ID = 0xfffffffe; // (uid_t) -1 means nobody
const MAX_GLOB = 256;
const RULE_NAME = /^[A-Za-z0-9._-]{1,64}$/;

export const EFFECTS = ["allow", "deny"] as const;
export type Effect = (typeof EFFECTS)[number];

/** A rule whose `where` is still empty: who reads the file knows the line of `path`. */
export type ParsedRule = { readonly rule: Rule; readonly path: Problem["path"] };
export type ParsedRules = { readonly rules: readonly ParsedRule[]; readonly problems: readonly Problem[] };

/** The uid of a user name, undefined when there is no such user. */
export type UserLookup = (name: string) => number | undefined;

/** @param value  what the document has under `effect` */
export function parseRules(effect: Effect, value: unknown, lookup: UserLookup): ParsedRules {
  if (!Array.isArray(value)) {
    const message = `${effect} is not a list of tables: write [[${effect}]]`;
    return { rules: [], problems: [{ path: [effect], message }] };
  }
  const problems: Problem[] = [];
  const rules: ParsedRule[] = [];
  for (const [index, table] of value.entries()) {
    const rule = new RuleParser(effect, index, lookup, problems).parse(table);
    if (rule === undefined) continue;
    if (rules.some((other) => other.rule.name === rule.name)) {
      problems.push({ path: [effect, index, "name"], message: `rule "${rule.name}": another rule has this name` });
    }
    rules.push({ rule, path: [effect, index] });
  }
  return { rules, problems };
}

class RuleParser {
  readonly #effect: Effect;
  readonly #index: number;
  readonly #lookup: UserLookup;
  readonly #problems: Problem[];
  #label: string;

  constructor(effect: Effect, index: number, lookup: UserLookup, problems: Problem[]) {
    this.#effect = effect;
    this.#index = index;
    this.#lookup = lookup;
    this.#problems = problems;
    this.#label = `[[${effect}]] ${index + 1}`;
  }

  parse(table: unknown): Rule | undefined {
    if (!isTable(table)) {
      this.#problems.push({ path: [this.#effect, this.#index], message: `${this.#label} is not a table` });
      return undefined;
    }
    const before = this.#problems.length;
    if (typeof table["name"] === "string") this.#label = `rule "${table["name"]}"`;
    for (const key of Object.keys(table)) {
      if (!KEYS.some((known) => known === key)) this.#report(key, `unknown key "${key}"${suggest(key, KEYS)}`);
    }
    const rule: Rule = {
      name: this.#name(table["name"]),
      effect: this.#effect,
      where: "",
      criteria: this.#criteria(table),
    };
    this.#checkWhole(table);
    this.#checkSizes(rule.criteria);
    return this.#problems.length === before ? rule : undefined;
  }

  #report(key: string, message: string): undefined {
    this.#problems.push({ path: [this.#effect, this.#index, key], message: `${this.#label}: ${message}` });
  }

  /** What opens a door says for whom and to what; a [[deny]] without either is for everybody and everything. */
  #checkWhole(table: Table): void {
    if (this.#effect === "deny") return;
    if (!WHO.some((key) => key in table)) {
      this.#report("uid", `nobody is named: uid = "any" is everybody; ${WHO.slice(1).join(", ")} say more`);
    }
    if (!("action" in table)) this.#report("action", `action is missing: ${listOf(OPERATIONS)} is wanted`);
  }

  #checkSizes({ minSizeBytes: least = 0, maxSizeBytes: most = least }: Criteria): void {
    if (least > most) this.#report("minSizeBytes", `minSizeBytes is ${least}: it is above maxSizeBytes, ${most}`);
  }

  #name(value: unknown): string {
    if (value === undefined) return `${this.#effect}#${this.#index + 1}`; // no name that is written can have a #
    if (typeof value === "string" && RULE_NAME.test(value) && value !== DEFAULT_DENY) return value;
    const why =
      value === DEFAULT_DENY ? "it stands for the refusal without a rule" : "1 to 64 of A-Z a-z 0-9 . _ - are wanted";
    this.#report("name", `name is ${show(value)}: ${why}`);
    return "";
  }

  #criteria(table: Table): Criteria {
    const uid = [...(this.#list(table, "uid", isSubject, SUBJECTS) ?? []), ...this.#users(table)];
    const gid = this.#list(table, "gid", isId, "a group id or a list of these");
    const words = Object.entries(WORDS).flatMap(([key, known]) => {
      const isKnown = (item: unknown): item is string => known.some((word) => word === item);
      const list = this.#list(table, key, isKnown, listOf(known), known);
      return list === undefined ? [] : [[key, list] as const];
    });
    const sizes = SIZES.flatMap((key) => {
      const size = table[key];
      if (size === undefined) return [];
      if (isSize(size)) return [[key, size] as const];
      return this.#report(key, `${key} is ${show(size)}: a whole number of bytes is wanted`) ?? [];
    });
    const fd = this.#list(
      table,
      "fd",
      isFdGlob,
      `a type or a glob that fits one, of ${FD_TYPES.join(", ")}, or a list of these`,
      FD_TYPES,
    );
    const globs = GLOBS.flatMap((key) => {
      const list = this.#list(table, key, isGlob, `a glob of 1 to ${MAX_GLOB} characters or a list of these`);
      return list === undefined ? [] : [[key, list] as const];
    });
    return {
      ...(uid.length > 0 ? { uid } : {}),
      ...(gid === undefined ? {} : { gid }),
      ...(fd === undefined ? {} : { fd }),
      ...Object.fromEntries([...words, ...globs]),
      ...Object.fromEntries(sizes),
    };
  }

  #users(table: Table): number[] {
    const names = this.#list(table, "user", isGlob, "a user name or a list of these") ?? [];
    return names.flatMap((name) => this.#lookup(name) ?? this.#report("user", `user "${name}" does not exist`) ?? []);
  }

  /** @param known  to guess from what was meant */
  #list<T>(
    table: Table,
    key: string,
    isGood: (item: unknown) => item is T,
    what: string,
    known: readonly string[] = [],
  ): readonly T[] | undefined {
    if (!Object.hasOwn(table, key)) return undefined;
    const value = table[key];
    const list: readonly unknown[] = Array.isArray(value) ? value : [value];
    if (list.length > 0 && list.every(isGood)) return list;
    const wrong = list.find((item) => !isGood(item));
    const hint = typeof wrong === "string" ? suggest(wrong, known) : "";
    return this.#report(key, `${key} is ${show(value)}: ${what} is wanted${hint}`);
  }
}

type Table = Readonly<Record<string, unknown>>;

const SUBJECTS = '"owner", "same", "any", a user id or a list of these';

function listOf(words: readonly string[]): string {
  return `a list of "${words.join('", "')}"`;
}

function isTable(value: unknown): value is Table {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function show(value: unknown): string {
  return value === undefined
    ? "missing"
    : (JSON.stringify(value, (_, part) => (typeof part === "bigint" ? String(part) : part)) ?? "?");
}

function isId(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= MAX_ID;
}

function isSubject(value: unknown): value is Subject {
  return value === "owner" || value === "same" || value === "any" || isId(value);
}

function isSize(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}

function isGlob(value: unknown): value is string {
  return typeof value === "string" && value.length >= 1 && value.length <= MAX_GLOB;
}

/** One that fits nothing would deny nothing. */
function isFdGlob(value: unknown): value is string {
  return isGlob(value) && FD_TYPES.some((type) => matchGlob(value, type));
}

/** A parsed document → typed values. Reports every problem with its place in the document; throws nothing. */
import { EFFECTS, type Effect, type ParsedRule, parseRules, type UserLookup } from "../policy/parse.ts";
import type { Problem } from "../policy/types.ts";
import { suggest } from "../util/suggest.ts";
import { type Field, SCHEMA, type SectionName, type ShmlinkConfig } from "./schema.ts";

type Table = Readonly<Record<string, unknown>>;
/** What one file says; a key that it leaves out is not there. */
export type PartialConfig = {
  readonly sections: { readonly [S in SectionName]?: Partial<ShmlinkConfig[S]> };
  readonly rules: readonly ParsedRule[];
};

export type Validated = { readonly values: PartialConfig; readonly problems: readonly Problem[] };

const SECTIONS = Object.keys(SCHEMA);

/** @param onlyRules  for policy.d, where nothing but [[allow]] and [[deny]] may stand */
export function validate(document: Table, lookup: UserLookup, onlyRules = false): Validated {
  const problems: Problem[] = [];
  const sections: Record<string, Table> = {};
  const rules: ParsedRule[] = [];
  for (const [key, value] of Object.entries(document)) {
    if (isEffect(key)) {
      const parsed = parseRules(key, value, lookup);
      problems.push(...parsed.problems);
      rules.push(...parsed.rules);
    } else if (!SECTIONS.includes(key)) {
      problems.push({ path: [key], message: `Unknown key "${key}"${suggest(key, [...SECTIONS, ...EFFECTS])}` });
    } else if (onlyRules) {
      problems.push({
        path: [key],
        message: `Key "${key}" does not belong here: only [[allow]] and [[deny]] may stand in policy.d`,
      });
    } else {
      sections[key] = validateSection(key as SectionName, value, problems); // it is one of SCHEMA's keys
    }
  }
  return { values: { sections, rules }, problems };
}

function isEffect(key: string): key is Effect {
  return EFFECTS.some((effect) => effect === key);
}

function validateSection(section: SectionName, value: unknown, problems: Problem[]): Table {
  if (!isTable(value)) {
    problems.push({
      path: [section],
      message: `"${section}" is ${describe(value)}: a table is wanted, write [${section}]`,
    });
    return {};
  }
  const fields = SCHEMA[section] as Readonly<Record<string, Field<unknown>>>; // to look up what the file says
  const kept: Record<string, unknown> = {};
  for (const [key, item] of Object.entries(value)) {
    const field = Object.hasOwn(fields, key) ? fields[key] : undefined;
    const complaint =
      field === undefined
        ? `Unknown key "${section}.${key}"${suggest(key, Object.keys(fields))}`
        : complain(field, item, `"${section}.${key}" is ${describe(item)}`);
    if (complaint === undefined) kept[key] = item;
    else problems.push({ path: [section, key], message: complaint });
  }
  return kept;
}

function complain(field: Field<unknown>, value: unknown, subject: string): string | undefined {
  switch (field.kind) {
    case "boolean":
      return typeof value === "boolean" ? undefined : `${subject}: true or false is wanted`;
    case "lists":
      return isTable(value) && Object.values(value).every(isListOfStrings)
        ? undefined
        : `${subject}: a table is wanted, with a list of strings for each name`;
    case "choice":
      if (typeof value === "string" && field.choices.includes(value)) return undefined;
      return `${subject}: one of "${field.choices.join('", "')}" is wanted`;
    case "integer":
    case "power-of-two": {
      const isPower = field.kind === "power-of-two";
      const isInRange =
        typeof value === "number" && Number.isInteger(value) && value >= field.min && value <= field.max;
      if (isInRange && (!isPower || Number.isInteger(Math.log2(value)))) return undefined;
      return `${subject}: ${isPower ? "a power of two" : "a whole number"} from ${field.min} to ${field.max} is wanted`;
    }
  }
}

function isListOfStrings(value: unknown): boolean {
  return Array.isArray(value) && value.every((item) => typeof item === "string");
}

function isTable(value: unknown): value is Table {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Date);
}

function describe(value: unknown): string {
  if (typeof value === "bigint") return String(value);
  if (Array.isArray(value)) return "a list";
  return isTable(value) ? "a table" : JSON.stringify(value);
}

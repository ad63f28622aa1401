/**
 * Checks the words of a command line against a command's definition and puts them into one plain form
 * (options as `--name=value`, positionals apart), from which argument-values.ts takes what a command is given.
 */
import type { ArgDef } from "citty";
import { suggest } from "../util/suggest.ts";
import type { ArgsDef, Command } from "./command.ts";
import { UsageError } from "./usage-error.ts";

export type Checked = {
  /** `--name=value`, `--flag`, `--no-flag`. */
  readonly options: readonly string[];
  readonly positionals: readonly string[];
  readonly program: readonly string[];
};

type Option = { readonly name: string; readonly definition: ArgDef };

/** @throws UsageError */
export function checkArguments(words: readonly string[], command: Command): Checked {
  const options: string[] = [];
  const positionals: string[] = [];
  const nOwn = countPositionals(command);
  let index = 0;
  for (; index < words.length; index++) {
    const word = words[index] ?? "";
    if (word === "--") break;
    if (!word.startsWith("-") || word === "-") {
      if (command.takesProgram === true && positionals.length >= nOwn) break; // the program's first word
      positionals.push(word);
    } else if (word.startsWith("--")) {
      index += takeLong(word, words[index + 1], command, options);
    } else {
      index += takeShort(word, words[index + 1], command, options);
    }
  }
  const rest = words.slice(words[index] === "--" ? index + 1 : index);
  if (command.takesProgram !== true) positionals.push(...rest);
  checkCount(positionals, command);
  const joined = joinRepeated(options, command.repeatable ?? []);
  return { options: joined, positionals, program: command.takesProgram === true ? rest : [] };
}

/** --help counts wherever it stands among the command's own words, even beside a mistake. */
export function asksForHelp(words: readonly string[], command: Command): boolean {
  let nLeft = countPositionals(command);
  for (let index = 0; index < words.length; index++) {
    const word = words[index] ?? "";
    if (word === "--help" || word === "-h") return true;
    if (word === "--") return false;
    if (word.startsWith("-") && word !== "-") index += isBeforeItsValue(word, words[index + 1], command) ? 1 : 0;
    else if (command.takesProgram === true && nLeft-- === 0) return false;
  }
  return false;
}

function isBeforeItsValue(word: string, next: string | undefined, { args }: Command): boolean {
  const found = word.startsWith("--") ? findLong(word.slice(2), args) : findShort(word.slice(1), args);
  return found !== undefined && found.definition.type !== "boolean" && next?.startsWith("-") === false;
}

function countPositionals({ args }: Command): number {
  return Object.values(args).filter(({ type }) => type === "positional").length;
}

/** `--rule=a`, `--rule=b` become one option with a line for each. */
function joinRepeated(options: readonly string[], names: readonly string[]): string[] {
  const prefixes = names.map((name) => `--${name}=`);
  const isRepeatable = (option: string): boolean => prefixes.some((prefix) => option.startsWith(prefix));
  const joined = prefixes.flatMap((prefix) => {
    const values = options.filter((option) => option.startsWith(prefix)).map((option) => option.slice(prefix.length));
    return values.length === 0 ? [] : [`${prefix}${values.join("\n")}`];
  });
  return [...options.filter((option) => !isRepeatable(option)), ...joined];
}

/** @returns how many of the following words it used up */
function takeLong(word: string, next: string | undefined, command: Command, options: string[]): number {
  const equals = word.indexOf("=");
  const name = word.slice(2, equals < 0 ? undefined : equals);
  const value = equals < 0 ? undefined : word.slice(equals + 1);
  const found = findLong(name, command.args);
  if (found !== undefined) return takeOption(found, word, value, next, options);
  const negated = name.startsWith("no-") ? findLong(name.slice(3), command.args) : undefined;
  if (negated?.definition.type === "boolean" && negated.definition.default === true && value === undefined) {
    options.push(`--no-${negated.name}`);
    return 0;
  }
  throw unknownOption(`--${name}`, command);
}

/** One letter, or several flags in one word, the last of which may have a value. */
function takeShort(word: string, next: string | undefined, command: Command, options: string[]): number {
  for (let at = 1; at < word.length; at++) {
    const found = findShort(word[at] ?? "", command.args);
    if (found === undefined) throw unknownOption(`-${word[at]}`, command);
    if (found.definition.type !== "boolean") {
      const attached = word.slice(at + 1).replace(/^=/, "");
      return takeOption(found, `-${word[at]}`, attached === "" ? undefined : attached, next, options);
    }
    options.push(`--${found.name}`);
  }
  return 0;
}

function takeOption(
  { name, definition }: Option,
  word: string,
  value: string | undefined,
  next: string | undefined,
  options: string[],
): number {
  if (definition.type === "boolean") {
    if (value !== undefined) throw new UsageError(`Cannot use "${word}": --${name} takes no value`);
    options.push(`--${name}`);
    return 0;
  }
  const given = value ?? next;
  if (given === undefined || given === "" || (value === undefined && given.startsWith("-"))) {
    const hint = definition.valueHint === undefined ? "" : ` ${definition.valueHint}`;
    throw new UsageError(`Missing value: --${name} needs one; write --${name}=${hint.trim() || "VALUE"}`);
  }
  options.push(`--${name}=${given}`);
  return value === undefined ? 1 : 0;
}

function findLong(name: string, args: ArgsDef): Option | undefined {
  const definition = Object.hasOwn(args, name) ? args[name] : undefined;
  return definition === undefined || definition.type === "positional" ? undefined : { name, definition };
}

function findShort(letter: string, args: ArgsDef): Option | undefined {
  for (const [name, definition] of Object.entries(args)) {
    if ("alias" in definition && definition.alias === letter) return { name, definition };
  }
  return undefined;
}

function unknownOption(option: string, command: Command): UsageError {
  const known = Object.entries(command.args).flatMap(([name, { type, default: value }]) => {
    if (type === "positional") return [];
    return type === "boolean" && value === true ? [`--no-${name}`] : [`--${name}`];
  });
  const hint = suggest(option, known).replace(/^: /, "; ") || `; see "shmlink ${command.name} --help"`;
  return new UsageError(`Unknown option: "${option}" is none of "shmlink ${command.name}"${hint}`);
}

function checkCount(positionals: readonly string[], command: Command): void {
  const expected = Object.entries(command.args).filter(([, { type }]) => type === "positional");
  const missing = expected.find(([, { required }], index) => required !== false && positionals[index] === undefined);
  if (missing !== undefined) {
    const [name, { description }] = missing;
    throw new UsageError(
      `Missing argument: "shmlink ${command.name}" needs ${name.toUpperCase()} (${description}); see "shmlink ${command.name} --help"`,
    );
  }
  const extra = positionals[expected.length];
  if (extra !== undefined) {
    const most = expected.length === 0 ? "takes none" : `takes ${expected.length} at most`;
    throw new UsageError(`Unexpected argument: "${extra}", "shmlink ${command.name}" ${most}`);
  }
}

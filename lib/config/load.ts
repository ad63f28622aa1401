/**
 * Finds, reads, checks and merges the configuration. The first place of the search order counts that has shmlink.toml or
 * policy.d/*.toml beside it; what it leaves out has the built-in value. A problem is reported with file, line and column.
 */
import { readdirSync } from "node:fs";
import { parse, TomlError } from "smol-toml";
import { lstat, stat } from "../../ffi/mod.ts";
import { ConfigError } from "../errors.ts";
import type { ParsedRule } from "../policy/parse.ts";
import type { Problem, Rule } from "../policy/types.ts";
import { dirname, isAbsolute, join } from "../util/path.ts";
import { readText } from "../util/read-text.ts";
import { locate } from "./locate.ts";
import { BUILT_IN_RULES, builtInConfig, type ShmlinkConfig } from "./schema.ts";
import { findUser } from "./users.ts";
import { type PartialConfig, validate } from "./validate.ts";

const MAX_FILE_BYTES = 1 << 20;

type Env = Readonly<Record<string, string | undefined>>;

export type LoadOptions = {
  /** SHMLINK_CONFIG, XDG_CONFIG_HOME, HOME. */
  readonly env: Env;
  /** A file to read instead of searching; it has to exist. */
  readonly path?: string;
};

/** `sources`: the files that were read, in order; empty when everything is built in. */
export type Loaded = { readonly config: ShmlinkConfig; readonly sources: readonly string[] };
export type Checked = Loaded & { readonly problems: readonly ConfigError[] };

/** @throws ConfigError with the first problem */
export function loadConfig(options: LoadOptions): Loaded {
  const { config, sources, problems } = checkConfig(options);
  if (problems[0] !== undefined) throw problems[0];
  return { config, sources };
}

/** All problems, for `shmlink config check`; `config` is what remains without the wrong values. */
export function checkConfig(options: LoadOptions): Checked {
  const found = findSources(options);
  if (found.length === 0) return { config: builtInConfig, sources: [], problems: [] };
  const files = found.map(readConfigFile);
  const config = merge(files);
  const problems = files.flatMap((file) => file.problems);
  problems.push(...duplicateRules(files), ...crossCheck(config, files[0]));
  return { config, sources: files.map(({ path }) => path), problems };
}

/** Where a configuration is looked for, first to last. */
export function searchPaths(env: Env): string[] {
  const home = env["HOME"];
  const xdg = env["XDG_CONFIG_HOME"];
  // A relative one must be ignored: XDG Base Directory Specification
  const directory = xdg && isAbsolute(xdg) ? xdg : home ? join(home, ".config") : undefined;
  return [
    ...(directory === undefined ? [] : [join(directory, "shmlink", "shmlink.toml")]),
    "/etc/shmlink/shmlink.toml",
  ];
}

/** `onlyRules`: of policy.d */
type Source = { readonly path: string; readonly text: string; readonly onlyRules: boolean };
type ConfigFile = {
  readonly path: string;
  readonly values: PartialConfig;
  /** As in values, each with its place. */
  readonly rules: readonly Rule[];
  readonly problems: ConfigError[];
  readonly text: string;
};

const ANOTHER = "name another one (SHMLINK_CONFIG)";

/** The file that counts, then those of policy.d beside it. One of them is enough: its rules may keep somebody out. */
function findSources({ env, path }: LoadOptions): Source[] {
  const named = path ?? (env["SHMLINK_CONFIG"] || undefined);
  for (const candidate of named === undefined ? searchPaths(env) : [named]) {
    const main = readIfThere(candidate, false);
    if (main.length === 0 && named !== undefined)
      throw new ConfigError(`Cannot read configuration "${named}": there is no such file; ${ANOTHER}`);
    const found = [...main, ...policyFiles(candidate)];
    if (found.length > 0) return found;
  }
  return [];
}

/** @returns nothing, or the one */
function readIfThere(path: string, onlyRules: boolean): Source[] {
  try {
    if (!isThere(path)) return []; // mostly, and node:fs need not be loaded then
    return [{ path, text: readText(path, { maxBytes: MAX_FILE_BYTES }), onlyRules }];
  } catch (error) {
    if (isAbsent(error)) return [];
    throw new ConfigError(`Cannot read configuration "${path}": ${message(error)}; ${ANOTHER}`);
  }
}

/** @throws Error for a link to nothing: its file is meant to be there, and rules of it may be what keeps somebody out */
function isThere(path: string): boolean {
  if (stat(path) !== undefined) return true;
  if (lstat(path) === undefined) return false;
  throw new Error("it is a symbolic link to nothing");
}

function policyFiles(path: string): Source[] {
  const directory = join(dirname(path), "policy.d");
  try {
    if (!isThere(directory)) return [];
    const names = readdirSync(directory).filter((name) => name.endsWith(".toml") && !name.startsWith("."));
    return names.sort().flatMap((name) => readIfThere(join(directory, name), true));
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    throw new ConfigError(`Cannot read policy directory "${directory}": ${message(error)}`);
  }
}

function isAbsent(error: unknown): boolean {
  return error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ENOTDIR");
}

function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function readConfigFile({ path, text, onlyRules }: Source): ConfigFile {
  try {
    const document = parse(text, { integersAsBigInt: "asNeeded" });
    const { values, problems } = validate(document, findUser, onlyRules);
    const rules = values.rules.map((parsed) => placeRule(path, text, parsed));
    return { path, text, values, rules, problems: problems.map((problem) => locatedError(path, text, problem)) };
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    // The first line of the parser's message; the rest is an excerpt of the file.
    const reason = error.message.split("\n")[0] ?? "";
    const problem = new ConfigError(
      reason.replace("Invalid TOML document: ", "Invalid TOML: "),
      `${path}:${error.line}:${error.column}`,
    );
    return { path, text, values: { sections: {}, rules: [] }, rules: [], problems: [problem] };
  }
}

/** Says of each rule in which file and line it stands. */
function placeRule(path: string, text: string, { rule, path: at }: ParsedRule): Rule {
  const place = locate(text, at);
  return { ...rule, where: place === undefined ? path : `${path}:${place.line}` };
}

function locatedError(path: string, text: string, problem: Problem): ConfigError {
  const place = locate(text, problem.path);
  return new ConfigError(problem.message, place === undefined ? path : `${path}:${place.line}:${place.column}`);
}

function merge(files: readonly ConfigFile[]): ShmlinkConfig {
  const rules = files.flatMap((file) => file.rules);
  const named = new Set(rules.map(({ name }) => name));
  const sections = files[0]?.values.sections;
  return {
    broker: { ...builtInConfig.broker, ...sections?.broker },
    limits: { ...builtInConfig.limits, ...sections?.limits },
    wrap: { ...builtInConfig.wrap, ...sections?.wrap },
    rules: [...rules, ...BUILT_IN_RULES.filter(({ name }) => !named.has(name))],
  };
}

/** Names are unique over all files, so that a refusal means one rule; rules without one are told apart by their place. */
function duplicateRules(files: readonly ConfigFile[]): ConfigError[] {
  const seen = new Map<string, { readonly path: string; readonly effect: string }>();
  const problems: ConfigError[] = [];
  for (const { path, text, values } of files) {
    for (const { rule, path: at } of values.rules) {
      const { name, effect } = rule;
      const first = seen.get(name);
      if (first !== undefined && isWritten(name) && (first.path !== path || first.effect !== effect)) {
        const message = `rule "${name}": "${first.path}" has one of this name`;
        problems.push(locatedError(path, text, { path: [...at, "name"], message }));
      }
      seen.set(name, { path, effect });
    }
  }
  return problems;
}

function isWritten(name: string): boolean {
  return !name.includes("#");
}

function crossCheck({ limits }: ShmlinkConfig, file: ConfigFile | undefined): ConfigError[] {
  const { defaultCapacityBytes, maxCapacityBytes } = limits;
  if (file === undefined || defaultCapacityBytes <= maxCapacityBytes) return [];
  const key =
    file.values.sections.limits?.defaultCapacityBytes === undefined ? "maxCapacityBytes" : "defaultCapacityBytes";
  const text = `"limits.defaultCapacityBytes" is ${defaultCapacityBytes}: it is above limits.maxCapacityBytes, ${maxCapacityBytes}`;
  return [locatedError(file.path, file.text, { path: ["limits", key], message: text })];
}

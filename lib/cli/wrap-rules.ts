/** The rules of `wrap`: those of the command line, then of its file, then of the configuration, as text and parsed. */
import { FailureError } from "../errors.ts";
import { readText } from "../util/read-text.ts";
import { checkOwners } from "../wrap/rules/owners.ts";
import { describeAction, describeSubject, parseRule, parseRules, RuleError } from "../wrap/rules/parse.ts";
import type { Rule } from "../wrap/rules/types.ts";
import { renderTable } from "./table.ts";
import { UsageError } from "./usage-error.ts";

const MAX_FILE_BYTES = 1 << 20;

export type RuleSources = {
  /** Of -r, one a line. */
  readonly rules: string | undefined;
  readonly file: string | undefined;
  readonly configured: Readonly<Record<string, readonly string[]>>;
  /** Whose configured rules apply; undefined for none. */
  readonly program: string | undefined;
};

/** @throws UsageError for -r, FailureError for a file or the configuration */
export function collectRules({ rules, file, configured, program }: RuleSources): Rule[] {
  const given = rules === undefined ? [] : rules.split("\n").map((text) => parseAs(() => parseOne(text), usage));
  const names = program === undefined ? [] : [program, "*"];
  const ours = names.flatMap((name) => {
    return (configured[name] ?? []).map((text) =>
      parseAs(
        () => parseOne(text),
        (why) => invalid(`wrap.rules of "${name}"`, why),
      ),
    );
  });
  return [...given, ...(file === undefined ? [] : readRules(file)), ...ours];
}

function readRules(path: string): Rule[] {
  let text: string;
  try {
    text = readText(path, { maxBytes: MAX_FILE_BYTES, pipes: true });
  } catch (error) {
    throw new FailureError("invalid", `Cannot read rules "${path}": ${(error as Error).message}`);
  }
  return parseAs(
    () => parseRules(text, parseOne),
    (why) => invalid(path, why),
  );
}

/** With what only this machine can say of it. */
function parseOne(text: string): Rule {
  return checkOwners(parseRule(text));
}

function parseAs<T>(parse: () => T, complain: (why: string) => Error): T {
  try {
    return parse();
  } catch (error) {
    throw error instanceof RuleError ? complain(error.message) : error;
  }
}

function usage(why: string): UsageError {
  return new UsageError(`Cannot use a rule: ${why}`);
}

function invalid(where: string, why: string): FailureError {
  return new FailureError("invalid", `Cannot use the rules of ${where}: ${why}`);
}

export function renderRules(rules: readonly Rule[]): string {
  if (rules.length === 0) return "No rules: every TCP socket is handed off where it can be\n";
  const rows = rules.map((rule, index) => [String(index + 1), describeSubject(rule), describeAction(rule), rule.text]);
  return renderTable(["", "APPLIES TO", "DOES", "RULE"], rows);
}

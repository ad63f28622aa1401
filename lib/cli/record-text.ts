/** One record as indented lines, for people. Keys that are names of ours become words, sizes get a unit. */
import { howMany } from "../util/how-many.ts";
import { formatBytes, formatDuration } from "./numbers.ts";
import { printable } from "./table.ts";

const SIZES = new Set(["bytes", "fill", "capacity", "hugePages"]);
/** What is counted by texts: these are data, and no names of ours. */
const TALLIES = new Set(["fallbacks"]);
/** Lists of texts that have commas themselves. */
const SPACED = new Set(["grants", "revoked"]);
const INDENT = "  ";

export function renderRecord(record: Readonly<Record<string, unknown>>): string {
  return `${lines(record, "").join("\n")}\n`;
}

function lines(record: Readonly<Record<string, unknown>>, indent: string, isSize = false): string[] {
  const entries = Object.entries(record);
  const flat = entries.filter(([, value]) => !isNested(value)).map(([key]) => wordsOf(key).length);
  const width = Math.max(0, ...flat);
  return entries.flatMap(([key, value]) => {
    const title = `${indent}${wordsOf(key)}`;
    const size = isSize || SIZES.has(key);
    if (!isNested(value)) return [`${title.padEnd(indent.length + width)}  ${scalar(key, value, size)}`];
    if (TALLIES.has(key)) return [title, ...tally(value, indent + INDENT)];
    if (!Array.isArray(value)) return [title, ...lines(value as Record<string, unknown>, indent + INDENT, size)];
    return value.flatMap((each, index) => {
      return [`${title} ${index + 1}`, ...lines(each as Record<string, unknown>, indent + INDENT)];
    });
  });
}

/** The texts as they are, each with its count. */
function tally(counts: object, indent: string): string[] {
  const entries = Object.entries(counts).map(([text, count]) => [printable(text), scalar("", count, false)] as const);
  const width = Math.max(...entries.map(([text]) => text.length));
  return entries.map(([text, count]) => `${indent}${text.padEnd(width)}  ${count}`);
}

/** An object, or a list of objects that is not empty. */
function isNested(value: unknown): value is object {
  if (Array.isArray(value)) return value.length > 0 && typeof value[0] === "object";
  return typeof value === "object" && value !== null;
}

function scalar(key: string, value: unknown, isSize: boolean): string {
  if (Array.isArray(value))
    return value.length === 0 ? "none" : printable(value.map(String).join(SPACED.has(key) ? " " : ", "));
  if (typeof value === "number" && isSize)
    return value < 1024 ? howMany(value, "byte") : `${formatBytes(value)} (${value})`;
  if (typeof value === "number" && key.endsWith("Ms")) return formatDuration(value);
  if (typeof value === "boolean") return value ? "yes" : "no";
  return printable(value === null || value === undefined || value === "" ? "-" : String(value));
}

/** "wakeupsSaved" → "wakeups saved" */
function wordsOf(key: string): string {
  return key.replace(/Ms$/, "").replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
}

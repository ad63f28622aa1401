/**
 * The Logger of commands: consola for people; where journald reads stderr, one line a message with the level as
 * sd-daemon(3) wants it ("<4>…"). consola takes as long to load as everything else together, so it is loaded by the
 * first message.
 */
import { createRequire } from "node:module";
import { type Fields, isWritten, type Logger } from "../log.ts";
import { printError } from "./output.ts";
import { printable } from "./table.ts";

type Level = keyof Logger;

/** syslog(3) levels. */
const JOURNAL_LEVEL: Readonly<Record<Level, number>> = { error: 3, warn: 4, info: 6, debug: 7 };

export type LoggerOptions = {
  /** Messages below it are dropped. */
  readonly level: Level;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly isTerminal: boolean;
  /** Called before each line that is written. */
  readonly beforeLine?: () => void;
};

export function createLogger(options: LoggerOptions): Logger {
  const write = options.isTerminal ? createTerminalWriter(options) : createLineWriter(options);
  const at = (level: Level) => (message: string, fields?: Fields) =>
    write(level, printable(`${message}${renderFields(fields)}`.replace(/[\r\n]+/g, " ")));
  const nothing = (): void => undefined;
  const wanted = (level: Level) => (isWritten(level, options.level) ? at(level) : nothing);
  return { error: wanted("error"), warn: wanted("warn"), info: wanted("info"), debug: wanted("debug") };
}

/** ` (uid 1000, rule "own")`, with keys in the order they were given. */
function renderFields(fields: Fields | undefined): string {
  const given = Object.entries(fields ?? {}).filter(([, value]) => value !== undefined);
  const shown = given.map(
    ([key, value]) => `${key} ${typeof value === "string" ? JSON.stringify(value) : String(value)}`,
  );
  return shown.length === 0 ? "" : ` (${shown.join(", ")})`;
}

/** For files, pipes and the journal. */
function createLineWriter({ env, beforeLine }: LoggerOptions): (level: Level, text: string) => void {
  const journal = env["JOURNAL_STREAM"] !== undefined;
  return (level, line) => {
    const time = journal ? "" : `${new Date().toISOString()} `;
    beforeLine?.();
    const prefix = journal ? `<${JOURNAL_LEVEL[level]}>` : `${level} `;
    printError(journal ? `${prefix}${line}\n` : `${time}${prefix}${line}\n`);
  };
}

function createTerminalWriter(options: LoggerOptions): (level: Level, text: string) => void {
  const { NO_COLOR: noColor } = options.env;
  let consola: Logger | undefined;
  return (level, text) => {
    try {
      consola ??= loadConsola(noColor === undefined || noColor === "");
    } catch {
      return createLineWriter(options)(level, text); // no descriptor left to read it with: that may be what is to be said
    }
    consola[level](text);
  };
}

/** Levels are filtered before it, so it shows all. */
function loadConsola(colors: boolean): Logger {
  // Not import(): a log line must not wait for a promise that a blocked event loop never settles.
  const require = createRequire(import.meta.url);
  const { createConsola } = (colors ? require("consola") : require("consola/basic")) as typeof import("consola");
  return createConsola({ level: 4, stdout: process.stderr, stderr: process.stderr });
}

/** The command line: finds the command, checks its words, runs it, and turns whatever comes out into an exit code. */
import "../util/disposable-stack.ts";
import { suggest } from "../util/suggest.ts";
import { VERSION } from "../version.ts";
import { argumentValues } from "./argument-values.ts";
import { asksForHelp, checkArguments } from "./arguments.ts";
import type { Command } from "./command.ts";
import { OK } from "./exit-codes.ts";
import { takeLauncherState } from "./launcher.ts";
import { loseStdout, printText } from "./output.ts";
import { reportError } from "./report-error.ts";
import { UsageError } from "./usage-error.ts";

/** The commands that this start knows. A bundle of one command has only that. */
export type CommandTable = Readonly<Record<string, CommandRow>>;
export type CommandRow = {
  readonly summary: string;
  readonly load: () => Promise<Command>;
  /** Started by shmlink itself, and not for people. */
  readonly isInternal?: boolean;
};

/** Runs one command line and ends the process. */
export async function main(words: readonly string[], commands: CommandTable): Promise<never> {
  const start = words.findIndex((word) => word !== "-v" && word !== "--verbose");
  const how = { verbose: start !== 0 && words.length > 0 }; // `shmlink -v ls` means `shmlink ls -v`
  let exitCode: number;
  try {
    exitCode = await dispatch(start < 0 ? [] : words.slice(start), how, commands);
  } catch (error) {
    exitCode = reportError(error, how.verbose);
  }
  process.exit(exitCode);
}

/** @param how  told whether -v was among the command's own words, which may be followed by a program's */
async function dispatch(words: readonly string[], how: { verbose: boolean }, commands: CommandTable): Promise<number> {
  const launcher = takeLauncherState(process.env);
  if (launcher.lacksStdout) loseStdout();
  const [first, ...rest] = words;
  if (first === undefined) throw missingCommand(commands);
  if (first === "--version" || first === "-V") return printVersion();
  if (first === "--help" || first === "-h" || first === "help") return await printHelp(rest[0], commands);
  const command = await findCommand(first, commands);
  if (asksForHelp(rest, command)) return await printHelp(first, commands);
  const checked = checkArguments(rest, command);
  how.verbose ||= checked.options.includes("--verbose");
  const input = { program: checked.program, options: checked.options, verbose: how.verbose, launcher };
  return await command.start(argumentValues(checked, command.args), input);
}

async function findCommand(name: string, commands: CommandTable): Promise<Command> {
  const row = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (row !== undefined) return await row.load();
  const kind = name.startsWith("-") ? "option" : "command";
  const known = kind === "option" ? ["--help", "--version"] : commandNames(commands);
  const hint = suggest(name, known).replace(/^: /, "; ") || '; "shmlink --help" lists them';
  throw new UsageError(`Unknown ${kind}: "${name}" is none of shmlink's${hint}`);
}

function commandNames(commands: CommandTable): string[] {
  return Object.keys(commands).filter((name) => commands[name]?.isInternal !== true);
}

function missingCommand(commands: CommandTable): UsageError {
  return new UsageError(`Missing command: one of ${commandNames(commands).join(", ")} is needed; see "shmlink --help"`);
}

function printVersion(): number {
  printText(`shmlink ${VERSION}\n`);
  return OK;
}

async function printHelp(name: string | undefined, commands: CommandTable): Promise<number> {
  const { renderHelp, renderOverview } = await import("./help.ts");
  if (name === undefined || name.startsWith("-")) {
    const rows = commandNames(commands).map((known) => [known, commands[known]?.summary ?? ""] as const);
    printText(renderOverview(rows, VERSION));
  } else {
    printText(renderHelp(await findCommand(name, commands)));
  }
  return OK;
}

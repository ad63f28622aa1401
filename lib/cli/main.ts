/** The command line: finds the command, checks its words, runs it, and turns whatever comes out into an exit code. */
import "../util/disposable-stack.ts";
import { suggest } from "../util/suggest.ts";
import { VERSION } from "../version.ts";
import type { Command } from "./command.ts";
import { OK } from "./exit-codes.ts";
import { takeLauncherState } from "./launcher.ts";
import { loseStdout, printText } from "./output.ts";
import { reportError } from "./report-error.ts";
import { UsageError } from "./usage-error.ts";

type Row = { readonly summary: string; readonly load: () => Promise<Command> };

/** Loaded one at a time: `ls` should not pay for what `wrap` needs. */
const COMMANDS: Readonly<Record<string, Row>> = {
  ls: {
    summary: "list services, channels and wrapped listeners",
    load: async () => (await import("./commands/ls.ts")).command,
  },
  inspect: {
    summary: "show all there is to know about one of them",
    load: async () => (await import("./commands/inspect.ts")).command,
  },
  listen: {
    summary: "offer a name; connect who dials it to stdin and stdout",
    load: async () => (await import("./commands/listen.ts")).command,
  },
  dial: {
    summary: "open a channel to a name, on stdin and stdout",
    load: async () => (await import("./commands/dial.ts")).command,
  },
  offer: {
    summary: "pass descriptors on: open ones, listeners, or connections as they come",
    load: async () => (await import("./commands/offer.ts")).command,
  },
  take: {
    summary: "run a program on descriptors that somebody offers",
    load: async () => (await import("./commands/take.ts")).command,
  },
  run: {
    summary: "run a program with exactly the rights that are granted to it",
    load: async () => (await import("./commands/run.ts")).command,
  },
  context: {
    summary: "make a listening socket with an identity, for a container",
    load: async () => (await import("./commands/context.ts")).command,
  },
  wrap: {
    summary: "run a program with its TCP sockets handed off as Unix sockets",
    load: async () => (await import("./commands/wrap.ts")).command,
  },
  broker: {
    summary: "run the broker in the foreground",
    load: async () => (await import("./commands/broker.ts")).command,
  },
  doctor: {
    summary: "say what this kernel, user and runtime can do",
    load: async () => (await import("./commands/doctor.ts")).command,
  },
  config: {
    summary: "check the configuration, or show the one in force",
    load: async () => (await import("./commands/config.ts")).command,
  },
  install: {
    summary: "put the systemd units in place",
    load: async () => (await import("./commands/install.ts")).command,
  },
  demo: {
    summary: "show all of it on real data, in under a minute",
    load: async () => (await import("./commands/demo.ts")).command,
  },
};

/** What shmlink starts by itself. */
const INTERNAL: Readonly<Record<string, () => Promise<Command>>> = {
  hold: async () => (await import("./hold.ts")).command,
};

/** Runs one command line and ends the process. */
export async function main(words: readonly string[]): Promise<never> {
  const start = words.findIndex((word) => word !== "-v" && word !== "--verbose");
  const how = { verbose: start !== 0 && words.length > 0 }; // `shmlink -v ls` means `shmlink ls -v`
  let exitCode: number;
  try {
    exitCode = await dispatch(start < 0 ? [] : words.slice(start), how);
  } catch (error) {
    exitCode = reportError(error, how.verbose);
  }
  process.exit(exitCode);
}

/** @param how  told whether -v was among the command's own words, which may be followed by a program's */
async function dispatch(words: readonly string[], how: { verbose: boolean }): Promise<number> {
  const launcher = takeLauncherState(process.env);
  if (launcher.lacksStdout) loseStdout();
  const [first, ...rest] = words;
  if (first === undefined) throw missingCommand();
  if (first === "--version" || first === "-V") return printVersion();
  if (first === "--help" || first === "-h" || first === "help") return await printHelp(rest[0]);
  const command = await findCommand(first);
  if (asksForHelp(rest, command)) return await printHelp(first);
  const { checkArguments } = await import("./arguments.ts");
  const checked = checkArguments(rest, command);
  how.verbose ||= checked.options.includes("--verbose");
  const { runCommand } = await import("citty");
  const input = { program: checked.program, options: checked.options, verbose: how.verbose, launcher };
  const rawArgs = [...checked.options, "--", ...checked.positionals];
  const { result } = await runCommand(command.toCitty(input), { rawArgs });
  return typeof result === "number" ? result : OK;
}

/** --help counts wherever it stands among the command's own words, even beside a mistake. */
function asksForHelp(words: readonly string[], command: Command): boolean {
  for (const word of words) {
    if (word === "--help" || word === "-h") return true;
    if (word === "--" || (command.takesProgram === true && !word.startsWith("-"))) return false;
  }
  return false;
}

async function findCommand(name: string): Promise<Command> {
  const row = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (row !== undefined) return await row.load();
  const internal = Object.hasOwn(INTERNAL, name) ? INTERNAL[name] : undefined;
  if (internal !== undefined) return await internal();
  const kind = name.startsWith("-") ? "option" : "command";
  const known = kind === "option" ? ["--help", "--version"] : commandNames();
  const hint = suggest(name, known).replace(/^: /, "; ") || '; "shmlink --help" lists them';
  throw new UsageError(`Unknown ${kind}: "${name}" is none of shmlink's${hint}`);
}

function missingCommand(): UsageError {
  return new UsageError(`Missing command: one of ${commandNames().join(", ")} is needed; see "shmlink --help"`);
}

function commandNames(): string[] {
  return Object.keys(COMMANDS);
}

function printVersion(): number {
  printText(`shmlink ${VERSION}\n`);
  return OK;
}

async function printHelp(name: string | undefined): Promise<number> {
  const { renderHelp, renderOverview } = await import("./help.ts");
  if (name === undefined || name.startsWith("-")) {
    const rows = commandNames().map((known) => [known, COMMANDS[known]?.summary ?? ""] as const);
    printText(renderOverview(rows, VERSION));
  } else {
    printText(renderHelp(await findCommand(name)));
  }
  return OK;
}

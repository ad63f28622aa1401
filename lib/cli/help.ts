/** Help as text, made from the definitions that the arguments are checked against. */
import type { ArgDef } from "citty";
import type { Command } from "./command.ts";

const INTRODUCTION = `shmlink introduces programs of one machine to each other: channels over shared memory, and TCP
sockets handed off as Unix sockets.`;

/** One line a command. */
export function renderOverview(
  commands: readonly (readonly [name: string, summary: string])[],
  version: string,
): string {
  return `${INTRODUCTION}

Usage: shmlink COMMAND [OPTIONS]

Commands:
${columns(commands)}

Options:
${columns([
  ["-h, --help", 'show this help; "shmlink COMMAND --help" tells about one command'],
  ["-V, --version", `show the version (${version})`],
])}

Example: send a file tree to another process, and look at the channel meanwhile
  shmlink listen files > out.tar &
  tar cf - src | shmlink dial files
  shmlink ls

The broker starts by itself. Its socket is $SHMLINK_SOCKET, else $XDG_RUNTIME_DIR/shmlink/broker.sock.
Exit codes: 0 done, 1 failed, 2 wrong usage, 128 + n ended by signal n; wrap passes on its program's.
`;
}

export function renderHelp(command: Command): string {
  const entries = Object.entries(command.args);
  const positionals = entries.filter(([, { type }]) => type === "positional");
  const options = entries.filter(([, { type }]) => type !== "positional");
  const words = positionals.map(([name, { required }]) =>
    required === false ? `[${name.toUpperCase()}]` : name.toUpperCase(),
  );
  const usage = ["shmlink", command.name, "[OPTIONS]", ...words];
  if (command.takesProgram === true) usage.push("--", "PROGRAM", "[ARGUMENTS]");
  const sections = [`Usage: ${usage.join(" ")}`, command.description.trim()];
  if (positionals.length > 0) sections.push(`Arguments:\n${columns(positionals.map(positionalRow))}`);
  sections.push(`Options:\n${columns(options.map(optionRow))}`);
  const examples = command.examples.map(([line, what]) => `  # ${what}\n  ${line}`);
  sections.push(`${examples.length === 1 ? "Example" : "Examples"}:\n${examples.join("\n")}`);
  return `${sections.join("\n\n")}\n`;
}

function positionalRow([name, { description }]: [string, ArgDef]): [string, string] {
  return [name.toUpperCase(), description ?? ""];
}

function optionRow([name, definition]: [string, ArgDef]): [string, string] {
  const { type, description = "" } = definition;
  const short = "alias" in definition && typeof definition.alias === "string" ? `-${definition.alias}, ` : "    ";
  if (type === "boolean") return [`${short}--${definition.default === true ? "no-" : ""}${name}`, description];
  return [`${short}--${name}=${definition.valueHint ?? "VALUE"}`, description];
}

function columns(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([left]) => left.length));
  return rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}`.trimEnd()).join("\n");
}

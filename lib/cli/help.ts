/** Help as text, made from the definitions that the arguments are checked against. */
import type { ArgDef } from "citty";
import type { Command } from "./command.ts";

/** Of all but the examples, which are to be pasted as they are. */
const WIDTH = 100;

const INTRODUCTION = `shmlink introduces programs of one machine to each other: channels over shared memory, and TCP
sockets handed off as Unix sockets.`;

const OVERVIEW_END = `The broker starts by itself. Its socket is $SHMLINK_SOCKET, else
$XDG_RUNTIME_DIR/shmlink/broker.sock.

Exit codes: 0 done, 1 failed, 2 wrong usage, 128 + n ended by signal n; a command that runs a
program passes on its code.`;

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

${paragraphs(OVERVIEW_END)}
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
  const sections = [`Usage: ${usage.join(" ")}`, paragraphs(command.description)];
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

/** The right column goes on below itself. */
function columns(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([left]) => left.length));
  const gap = " ".repeat(width + 4);
  const row = ([left, right]: readonly [string, string]): string =>
    `  ${left.padEnd(width)}  ${wrapped(right, WIDTH - gap.length).join(`\n${gap}`)}`.trimEnd();
  return rows.map(row).join("\n");
}

/** Lines of up to WIDTH characters, whatever those of `text` are; an empty one stays. */
function paragraphs(text: string): string {
  const each = text.trim().split(/\n{2,}/);
  return each.map((paragraph) => wrapped(paragraph, WIDTH).join("\n")).join("\n\n");
}

function wrapped(text: string, width: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(/\s+/)) {
    const last = lines.at(-1);
    if (last === undefined || last.length + 1 + word.length > width) lines.push(word);
    else lines[lines.length - 1] = `${last} ${word}`;
  }
  return lines;
}

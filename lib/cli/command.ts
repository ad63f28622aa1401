/** What a command is: citty's definition, with what its help needs to teach. One file a command under commands/. */
import type { ArgsDef, ParsedArgs } from "citty";
import type { ArgumentValues } from "./argument-values.ts";
import type { LauncherState } from "./launcher.ts";

export type { ArgsDef } from "citty";

/** What a command is given besides its own arguments. */
export type CommandInput = {
  /** Words that belong to the program to run, for commands that `takesProgram`. */
  readonly program: readonly string[];
  readonly verbose: boolean;
  /** The options as they were given, `--name=value`: for those that may be given several times. */
  readonly options: readonly string[];
  readonly launcher: LauncherState;
};

export type CommandSpec<T extends ArgsDef> = {
  readonly name: string;
  /** One line, for the list of commands. */
  readonly summary: string;
  /** What it is for and what one should know; its paragraphs are broken into lines where it is shown. */
  readonly description: string;
  readonly args: T;
  /** Command lines that work when pasted, each with what it does. */
  readonly examples: readonly (readonly [line: string, what: string])[];
  /** The words after "--", or from the first that is no option, are a program and its arguments. */
  readonly takesProgram?: boolean;
  /** Options that may be given more than once; their values come as lines. */
  readonly repeatable?: readonly string[];
  /** @returns the exit code */
  readonly run: (args: ParsedArgs<T>, input: CommandInput) => number | Promise<number>;
};

/** A command whose argument types were checked where it was defined. */
export type Command = Omit<CommandSpec<ArgsDef>, "run"> & {
  /** @returns the exit code */
  start(values: ArgumentValues, input: CommandInput): number | Promise<number>;
};

/** Every command has these. */
const COMMON_ARGS = {
  verbose: { type: "boolean", alias: "v", description: "say more, and why something failed" },
  help: { type: "boolean", alias: "h", description: "show this help" },
} as const satisfies ArgsDef;

export function makeCommand<const T extends ArgsDef>(spec: CommandSpec<T>): Command {
  const args = { ...spec.args, ...COMMON_ARGS };
  return {
    ...spec,
    args,
    start: (values, input) => spec.run(values as ParsedArgs<T>, input),
  };
}

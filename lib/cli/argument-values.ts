/**
 * What a command's arguments are, by name, from a command line that was checked. citty would do the same, after loading
 * for as long as a short command runs (3 ms of `shmlink ls`): its definitions are used, and its types, not its code.
 */
import type { Checked } from "./arguments.ts";
import type { ArgsDef } from "./command.ts";

export type ArgumentValues = Readonly<Record<string, string | boolean | undefined>>;

/** What was not given has its default, or is undefined. */
export function argumentValues({ options, positionals }: Omit<Checked, "program">, args: ArgsDef): ArgumentValues {
  const values: Record<string, string | boolean | undefined> = {};
  let nPositionals = 0;
  for (const [name, definition] of Object.entries(args)) {
    const given = definition.type === "positional" ? positionals[nPositionals++] : lastGiven(name, options);
    values[name] = given ?? (definition.default as string | boolean | undefined);
  }
  return values;
}

/** Of several the last counts. */
function lastGiven(name: string, options: readonly string[]): string | boolean | undefined {
  let value: string | boolean | undefined;
  for (const option of options) {
    if (option === `--${name}`) value = true;
    else if (option === `--no-${name}`) value = false;
    else if (option.startsWith(`--${name}=`)) value = option.slice(name.length + 3);
  }
  return value;
}

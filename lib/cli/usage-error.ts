/** The command line is wrong: nothing was tried. The message says what is wrong, the value and what to do. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** @param command  such as "config explain"  @param option  as it is given, "--path=PATH"  @param values  what it can be */
export function missingOption(command: string, option: string, values: string): UsageError {
  return new UsageError(`Missing ${option.replace(/=.*/, "")}: "shmlink ${command}" needs ${option}, ${values}`);
}

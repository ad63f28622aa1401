/** The command line is wrong: nothing was tried. The message says what is wrong, the value and what to do. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

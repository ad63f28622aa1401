/** How `wrap` fails before its program runs: like a shell, with 126 or 127. */
import { ShmlinkError } from "../errors.ts";

/** The program cannot be started. `exitCode` is what a shell would end with: 127 not found, 126 not executable. */
export class CommandError extends ShmlinkError {
  override readonly name = "CommandError";
  readonly exitCode: 126 | 127;

  constructor(exitCode: 126 | 127, message: string, options?: ErrorOptions) {
    super("command", message, options);
    this.exitCode = exitCode;
  }
}

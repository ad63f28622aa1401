/** Errors as one line on stderr: `shmlink: what failed: the value; what to do`. With -v the chain of causes follows. */
import { FAILED, WRONG_USAGE } from "./exit-codes.ts";
import { printError } from "./output.ts";
import { printable } from "./table.ts";

/** Names of errors that are about the user's or the system's doing. Anything else is a bug of ours. By name, so that a
 *  command that never loads ffi or the libraries can still be told apart. */
const EXPECTED = new Set([
  "UsageError",
  "ShmlinkError",
  "ProtocolError",
  "FailureError",
  "ConfigError",
  "ClosedError",
  "SyscallError",
  "CommandError",
  "OutputError",
  "CommandFailure",
]);

/** Of this process, or of the whole system. */
const OUT_OF_FILES: ReadonlySet<unknown> = new Set(["EMFILE", "ENFILE"]);

function codeOf(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : undefined;
}

/** A command's own failure, with its message already whole. */
export class CommandFailure extends Error {
  override readonly name = "CommandFailure";
}

/** Prints `error` and returns the exit code it stands for. */
export function reportError(error: unknown, verbose: boolean): number {
  if (error instanceof Error && error.name === "OutputClosedError") return exitCodeOf(error);
  printError(renderError(error, verbose));
  return exitCodeOf(error);
}

export function renderError(error: unknown, verbose: boolean): string {
  const expected = error instanceof Error && EXPECTED.has(error.name);
  const message = oneLine(error instanceof Error ? error.message : String(error));
  const line = OUT_OF_FILES.has(codeOf(error))
    ? `${message}; raise the limit of open files with "ulimit -n 1024"`
    : expected
      ? message
      : `Internal error: ${message || "no message"}; run it again with -v and report what it says`;
  return [`shmlink: ${line}`, ...(verbose ? details(error, expected) : [])].join("\n").concat("\n");
}

function details(error: unknown, expected: boolean): string[] {
  if (!(error instanceof Error)) return [];
  const stack = expected ? [] : (error.stack ?? "").split("\n").map((line) => `  ${line.trim()}`);
  return [...stack, ...causes(error.cause)];
}

function causes(cause: unknown): string[] {
  if (cause === undefined) return [];
  const message = oneLine(cause instanceof Error ? `${cause.name}: ${cause.message}` : String(cause));
  return [`  because: ${message}`, ...causes(cause instanceof Error ? cause.cause : undefined)];
}

function oneLine(text: string): string {
  return printable(text.replace(/\s*[\r\n]+\s*/g, " ").trim());
}

function exitCodeOf(error: unknown): number {
  if (!(error instanceof Error)) return FAILED;
  if (error.name === "UsageError") return WRONG_USAGE;
  const { exitCode } = error as { exitCode?: unknown };
  return typeof exitCode === "number" ? exitCode : FAILED;
}

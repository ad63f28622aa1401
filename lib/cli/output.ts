/**
 * What commands print. Text and --json come from the same record. Writing is synchronous, so that a command may exit
 * right after it and nothing is lost or out of order.
 */
import { writeSync } from "node:fs";
import { FAILED, OUTPUT_CLOSED } from "./exit-codes.ts";
import { escaped } from "./table.ts";

const STDOUT = 1;
const STDERR = 2;
const RETRY_MS = 2;

/** Our reader went away. main() ends quietly with OUTPUT_CLOSED. */
export class OutputClosedError extends Error {
  override readonly name = "OutputClosedError";
  readonly exitCode: number = OUTPUT_CLOSED;
}

/** The output cannot be written: a full disk, say. */
export class OutputError extends Error {
  override readonly name = "OutputError";
  readonly exitCode: number = FAILED;
}

/** Writes what it can. @returns null where it would have to wait @throws an error with a `code` */
export type WriteSome = (fd: number, bytes: Uint8Array) => number | null;

let writeSome: WriteSome = writeByNode;

/** For commands that call the kernel anyway, and start sooner without node:fs. */
export function writeWith(other: WriteSome): void {
  writeSome = other;
}

let hasStdout = true;

/** Notes that we were started without a stdout. What is open in its place, runtimes have put there: nobody reads it. */
export function loseStdout(): void {
  hasStdout = false;
}

/** @throws OutputError when there is no stdout */
export function requireStdout(): void {
  if (!hasStdout) throw closedStdout();
}

export function closedStdout(cause?: unknown): OutputError {
  return new OutputError('Cannot write to stdout: it is closed (EBADF); redirect it, to "> /dev/null" perhaps', {
    cause,
  });
}

/** Writes `text` to stdout. @throws OutputClosedError, OutputError */
export function printText(text: string): void {
  requireStdout();
  try {
    writeAll(STDOUT, text);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EPIPE") throw new OutputClosedError("Cannot write to stdout: its reader is gone", { cause: error });
    if (code === "EBADF") throw closedStdout(error);
    const hint = code === "ENOSPC" ? "; the disk is full" : "";
    throw new OutputError(`Cannot write to stdout: ${code ?? String(error)}${hint}`, { cause: error });
  }
}

/** One record as JSON: indented for a person who looks at it, one line where lines are records. */
export function printJson(record: unknown, layout: "indented" | "line" = "indented"): void {
  printText(`${escaped(JSON.stringify(record, null, layout === "indented" ? 2 : 0))}\n`);
}

/** Writes to stderr; that nobody can read it is no reason to fail. */
export function printError(text: string): void {
  try {
    writeAll(STDERR, text);
  } catch {
    // nowhere left to say it
  }
}

function writeAll(fd: number, text: string): void {
  const bytes = new TextEncoder().encode(text);
  for (let done = 0; done < bytes.length; ) {
    const count = writeSome(fd, done === 0 ? bytes : bytes.subarray(done));
    // A terminal or pipe that somebody else made non-blocking. This is rare, so a nap will do.
    if (count === null) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, RETRY_MS);
    else done += count;
  }
}

function writeByNode(fd: number, bytes: Uint8Array): number | null {
  try {
    return writeSync(fd, bytes);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EAGAIN") return null;
    throw error;
  }
}

/** A record both ways. */
export function printRecord(record: unknown, options: { readonly json: boolean; readonly text: () => string }): void {
  if (options.json) printJson(record);
  else printText(options.text());
}

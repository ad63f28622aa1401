/** The child that we started: whether it runs, stands still or has ended, and how. */
import { readFileSync } from "node:fs";
import { constants, type ExitStatus, hasStopped, kill, reapAnyChild, waitForChild } from "../../ffi/mod.ts";

export class Program {
  readonly #pid: number;
  #status: ExitStatus | undefined;

  constructor(pid: number) {
    this.#pid = pid;
  }

  /** undefined once it has ended. */
  get pid(): number | undefined {
    return this.#status === undefined ? this.#pid : undefined;
  }

  /** Takes note of children that have ended or were stopped, also of what the program left behind. */
  noticeChildren(): void {
    for (let child = reapAnyChild(); child !== undefined; child = reapAnyChild()) {
      if (child.pid === this.#pid) this.#status = child.status;
    }
    // The shell that waits for us must see its job stop when the program does, whatever made it stop.
    if (this.pid !== undefined && hasStopped(this.#pid) && hasTerminal()) kill(process.pid, constants.SIGSTOP);
  }

  /** We were told to go on: so is a program that still stands still. fg(1) tells the whole group, kill(1) only us. */
  resume(): void {
    if (this.pid !== undefined && stateOf(this.#pid) === "T") kill(this.#pid, constants.SIGCONT);
  }

  /** The tree has no threads left, so this does not take long. @returns its code, 128 + n when signal n killed it */
  waitForEnd(): number {
    this.noticeChildren();
    this.#status ??= waitForChild(this.#pid, true);
    this.noticeChildren();
    return exitCode(this.#status);
  }
}

/** Fields of /proc/PID/stat from the third on: state, parent, group, session, terminal, its foreground group … */
export function statusFields(pid: number | "self"): string[] {
  const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ");
}

function stateOf(pid: number): string | undefined {
  try {
    return statusFields(pid)[0];
  } catch {
    return undefined;
  }
}

/** Without one there is no job control, and nobody who would let us go on. */
function hasTerminal(): boolean {
  return statusFields("self")[4] !== "0";
}

function exitCode(status: ExitStatus | undefined): number {
  if (status === undefined) throw new Error("The program has ended without a status");
  return status.kind === "exited" ? status.code : 128 + status.signal;
}

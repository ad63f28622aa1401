/**
 * Signals that reach us are meant for the program. What a terminal sends (Ctrl-C, a resized window, a hang-up) goes to
 * the whole foreground process group, which the program is in with us: it has that already, and twice would be wrong.
 * SIGTSTP, SIGTTIN and SIGTTOU keep their default action: we stop with the program, and go on with it.
 */
import { readdirSync, readFileSync } from "node:fs";
import { constants, kill } from "../../ffi/mod.ts";

const { SIGALRM, SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH } = constants;

const FROM_TERMINAL: ReadonlySet<number> = new Set([SIGHUP, SIGINT, SIGQUIT, SIGWINCH]);

/** What to take over: those to pass on, and SIGCHLD. */
export const WATCHED_SIGNALS: readonly number[] = [...FROM_TERMINAL, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM, SIGCHLD];

/** Passes a signal on. @param program  undefined once it has ended: then to its descendants that have become ours */
export function forwardSignal(signal: number, program: number | undefined): void {
  if (FROM_TERMINAL.has(signal) && isForeground()) return;
  for (const pid of program === undefined ? ownChildren() : [program]) kill(pid, signal);
}

/** Whether our process group is the one that the controlling terminal talks to (proc(5), stat: pgrp, tty_nr, tpgid). */
function isForeground(): boolean {
  const stat = readFileSync("/proc/self/stat", "latin1");
  const [, , group, , terminal, foreground] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return terminal !== "0" && group === foreground;
}

function ownChildren(): number[] {
  return readdirSync("/proc/self/task").flatMap((task) => {
    try {
      const text = readFileSync(`/proc/self/task/${task}/children`, "latin1");
      return text.split(" ").filter(Boolean).map(Number);
    } catch {
      return []; // that thread has ended, or the kernel is built without
    }
  });
}

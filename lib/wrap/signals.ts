/**
 * Signals that reach us are meant for the program. What the terminal sends (Ctrl-C, Ctrl-Z, a resized window) goes to
 * the whole process group, which the program is in with us: it has that already, and twice would be wrong. What a
 * process sends to us alone is passed on, wherever we run. We never stop by ourselves: when the program stops, so do
 * we (program.ts), and a program that ignores Ctrl-Z goes on being served.
 */
import { readdirSync, readFileSync } from "node:fs";
import { constants, kill, type SentSignal } from "../../ffi/mod.ts";
import { statusFields } from "./program.ts";

const { SIGALRM, SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH } = constants;
const { SIGTSTP, SIGTTIN, SIGTTOU } = constants;

/** The kernel sends these to process groups only. */
const TO_GROUPS: ReadonlySet<number> = new Set([SIGINT, SIGQUIT, SIGWINCH, SIGTSTP, SIGTTIN, SIGTTOU]);

/** What to take over: those to pass on, and those that tell of the program. */
export const WATCHED_SIGNALS: readonly number[] = [
  ...TO_GROUPS,
  ...[SIGHUP, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM, SIGCHLD, SIGCONT],
];

/** Passes a signal on. @param program  undefined once it has ended: then to its descendants that have become ours */
export function forwardSignal({ signal, fromProcess }: SentSignal, program: number | undefined): void {
  if (!fromProcess && (TO_GROUPS.has(signal) || (signal === SIGHUP && isForeground()))) return;
  for (const pid of program === undefined ? ownChildren() : [program]) kill(pid, signal);
}

/** Whether our process group is the one that the controlling terminal talks to. A hang-up reaches that group, and the
 *  leader of the session, who is alone with it. */
function isForeground(): boolean {
  const [, , group, , terminal, foreground] = statusFields("self");
  return terminal !== "0" && group === foreground;
}

function ownChildren(): number[] {
  return readdirSync("/proc/self/task").flatMap((task) => {
    try {
      const text = readFileSync(`/proc/self/task/${task}/children`, "latin1");
      return text.split(" ").filter(Boolean).map(Number).filter(isOfTree);
    } catch {
      return []; // that thread has ended, or the kernel is built without
    }
  });
}

/** Not a broker that we have started, who became ours as daemons do: it runs without our filter. */
function isOfTree(pid: number): boolean {
  const own = filterCount("self");
  return own === undefined || (filterCount(pid) ?? 0) > own;
}

/** undefined before Linux 5.11, and for a process that is no more */
function filterCount(pid: number | "self"): number | undefined {
  try {
    const count = /^Seccomp_filters:\s*(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1];
    return count === undefined ? undefined : Number(count);
  } catch {
    return undefined;
  }
}

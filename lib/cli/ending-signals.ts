/** The signals that end a command which stays until it is told to end: with 128 + n, as if it had not caught them. */
import { constants } from "../../ffi/mod.ts";
import { SIGNAL_BASE } from "./exit-codes.ts";
import { ignoredSignals } from "./inherited-signals.ts";
import type { LauncherState } from "./launcher.ts";

const { SIGHUP, SIGINT, SIGTERM } = constants;

/** A background job of a shell without job control ignores SIGINT, and nohup SIGHUP: that stays so. */
export function endingSignals(launcher: LauncherState): number[] {
  const ignored = ignoredSignals(launcher);
  return [SIGINT, SIGTERM, SIGHUP].filter((signal) => !ignored.includes(signal));
}

export function exitCodeOfSignal(signal: number): number {
  return SIGNAL_BASE + signal;
}

/** Which signals we were started to ignore, as under nohup(1), and to block: so is a program that we start. */
import { readSmallFile } from "../../ffi/mod.ts";
import type { LauncherState } from "./launcher.ts";

const LAST_LOW = 31;
const LAST = 64;
/** Those that runtimes ignore for themselves: only the launcher knows of them. */
const IGNORED_BY_RUNTIMES = (1 << (13 - 1)) | (1 << (25 - 1)); // SIGPIPE, SIGXFSZ

/** Of the signals above 31 runtimes change nothing. */
export function ignoredSignals({ lowIgnored }: Pick<LauncherState, "lowIgnored">): number[] {
  const { low, high } = ownIgnored();
  const found = signalsOf(lowIgnored ?? low & ~IGNORED_BY_RUNTIMES, 1, LAST_LOW);
  if (low < 0) found.push(LAST_LOW + 1);
  return found.concat(signalsOf(high, LAST_LOW + 2, LAST));
}

/** Bit 0 for signal 1. Without the launcher, what we block ourselves: Node has unblocked everything then. */
export function blockedSignals({ blocked }: Pick<LauncherState, "blocked">): bigint {
  if (blocked !== undefined) return blocked;
  const [, own = "0"] = /^SigBlk:\s*([0-9a-f]+)$/m.exec(readSmallFile("/proc/self/status")) ?? [];
  return BigInt(`0x${own}`);
}

function signalsOf(mask: number, first: number, last: number): number[] {
  const found: number[] = [];
  for (let signal = first; mask !== 0 && signal <= last; signal++) {
    if (((mask >>> (signal - first)) & 1) === 1) found.push(signal);
  }
  return found;
}

/** SigIgn of proc(5), which is hexadecimal: bit 0 is signal 1. */
function ownIgnored(): { readonly low: number; readonly high: number } {
  const [, high = "0", low = "0"] =
    /^SigIgn:\s*([0-9a-f]{8})([0-9a-f]{8})$/m.exec(readSmallFile("/proc/self/status")) ?? [];
  return { low: Number.parseInt(low, 16) | 0, high: Number.parseInt(high, 16) };
}

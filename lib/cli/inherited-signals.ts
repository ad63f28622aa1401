/** Which signals we were started to ignore, as under nohup(1), and to block: so is a program that we start. */
import { readSmallFile } from "../../ffi/mod.ts";
import type { LauncherState } from "./launcher.ts";

const LAST = 64;
/** Those that runtimes ignore for themselves: only the launcher knows of them. */
const IGNORED_BY_RUNTIMES = (1n << (13n - 1n)) | (1n << (25n - 1n)); // SIGPIPE, SIGXFSZ

export function ignoredSignals({ ignored }: Pick<LauncherState, "ignored">): number[] {
  return signalsOf(ignored ?? ownMask("SigIgn") & ~IGNORED_BY_RUNTIMES);
}

/** Bit 0 for signal 1. Without the launcher, what we block ourselves: Node has unblocked everything then. */
export function blockedSignals({ blocked }: Pick<LauncherState, "blocked">): bigint {
  return blocked ?? ownMask("SigBlk");
}

function signalsOf(mask: bigint): number[] {
  const signals = Array.from({ length: LAST }, (_, index) => index + 1);
  return signals.filter((signal) => ((mask >> BigInt(signal - 1)) & 1n) === 1n);
}

/** A line of proc(5), which is hexadecimal: bit 0 is signal 1. */
function ownMask(name: "SigIgn" | "SigBlk"): bigint {
  const [, mask = "0"] = new RegExp(`^${name}:\\s*([0-9a-f]+)$`, "m").exec(readSmallFile("/proc/self/status")) ?? [];
  return BigInt(`0x${mask}`);
}

/**
 * The descriptors that this process has open, and which of them are new. What the runtime opens for itself (its modules,
 * its caches) is left out. No test framework here: the contract suites run on every runtime.
 */
import { readdirSync, readlinkSync } from "node:fs";
import { ROOT } from "./runtimes.ts";

/** "number → what it is" of every open descriptor that a test can have opened. @param pid  another process */
export function openFds(pid: number | "self" = "self"): string[] {
  return readdirSync(`/proc/${pid}/fd`).flatMap((number) => {
    const target = targetOf(pid, number);
    return target === undefined || isRuntimeOwn(target) ? [] : [`${number} → ${target}`];
  });
}

/** undefined for the descriptor of the listing itself, which is closed by now. */
function targetOf(pid: number | "self", number: string): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/fd/${number}`);
  } catch {
    return undefined;
  }
}

function isRuntimeOwn(target: string): boolean {
  return target === ROOT || target.startsWith(`${ROOT}/`) || target.startsWith("/proc/") || target === "/";
}

/** A hundredth of a second each. */
const LOOKS = 200;

/** What is open now and was not in `before`; a runtime closes the pipes of a child a moment after its end. */
export async function leakedSince(before: readonly string[]): Promise<string[]> {
  const known = new Set(before);
  for (let looks = 1; ; looks++) {
    const extra = openFds().filter((entry) => !known.has(entry));
    if (extra.length === 0 || looks === LOOKS) return extra;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

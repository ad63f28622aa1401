/** The threads of this process that have the name of its first one, as those of machine code do: the runtime's own, which come
 *  and go, are given others as soon as they run. */
import { readdirSync, readFileSync } from "node:fs";
import { until } from "./wrapped.ts";

export function ownThreads(): Set<string> {
  const name = nameOf("self");
  return new Set(readdirSync("/proc/self/task").filter((thread) => nameOf(`self/task/${thread}`) === name));
}

function nameOf(task: string): string {
  try {
    return readFileSync(`/proc/${task}/comm`, "latin1");
  } catch {
    return ""; // it has ended
  }
}

/** The one that there is now and was not before. */
export async function newThread(before: ReadonlySet<string>): Promise<string> {
  const [own = ""] = await until("one thread more", () => {
    const added = ownThreads().difference(before);
    return added.size === 1 && added;
  });
  return own;
}

export async function untilNoneIsNew(before: ReadonlySet<string>): Promise<void> {
  await until("no thread more", () => ownThreads().difference(before).size === 0);
}

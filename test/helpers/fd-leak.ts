/** Every test ends with the descriptors it began with: call `expectNoFdLeaks()` at the top of a test file. */
import { afterEach, beforeEach } from "bun:test";
import { leakedSince, openFds } from "./open-fds.ts";

export { openFds } from "./open-fds.ts";

/** Whether the runtime's second loop, for files, has been seen: it makes one when it first needs it, and keeps it. */
let isLoopKnown = false;

function isRuntimeLoop(entries: readonly string[]): boolean {
  const kinds = entries.map((entry) => entry.split(" → ")[1]);
  const isLoop = kinds.join() === "anon_inode:[eventpoll],anon_inode:[eventfd]" && !isLoopKnown;
  isLoopKnown ||= isLoop;
  return isLoop;
}

/** Registers the check for every test of the calling file. */
export function expectNoFdLeaks(): void {
  let before: string[] = [];
  beforeEach(() => {
    before = openFds();
  });
  afterEach(async () => {
    const leaked = await leakedSince(before);
    if (leaked.length > 0 && !isRuntimeLoop(leaked))
      throw new Error(`The test left descriptors open: ${leaked.join(", ")}`);
  });
}

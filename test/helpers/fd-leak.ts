/** Every test ends with the descriptors it began with: call `expectNoFdLeaks()` at the top of a test file. */
import { afterEach, beforeEach } from "bun:test";
import { leakedSince, openFds } from "./open-fds.ts";

export { openFds } from "./open-fds.ts";

/** Registers the check for every test of the calling file. */
export function expectNoFdLeaks(): void {
  let before: string[] = [];
  beforeEach(() => {
    before = openFds();
  });
  afterEach(async () => {
    const leaked = await leakedSince(before);
    if (leaked.length > 0) throw new Error(`The test left descriptors open: ${leaked.join(", ")}`);
  });
}

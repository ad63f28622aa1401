/** Rings made ahead where the system has nothing to make them of. */
import { expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { BUN, ROOT } from "../../helpers/runtimes.ts";

const PROGRAM = `
import { openSync } from "node:fs";
import { SpareRings } from ${JSON.stringify(join(ROOT, "lib/client/spare-rings.ts"))};
const rings = new SpareRings();
let sent = 0;
rings.provide(4096, 1, (_serial, memfd) => { sent += 1; memfd.close(); });
try { for (;;) openSync("/dev/null", "r"); } catch {}
rings.provide(4096, 4, () => { sent += 100; });
console.log(sent);
process.exit(0);
`;

test("who has no descriptor left makes no ring ahead, and that is no error", () => {
  const output = execFileSync("sh", ["-c", `ulimit -n 100; exec "$0" -e "$1"`, BUN.binary, PROGRAM]);
  expect(output.toString().trim()).toBe("1");
});

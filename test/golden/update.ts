/** Writes tiny.gen.ts again, after a change of the scanner that was meant: `bun test/golden/update.ts`, then read the diff. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { scan } from "../../lib/protocol/scanner.ts";

writeFileSync(
  join(import.meta.dirname, "tiny.gen.ts"),
  scan([join(import.meta.dirname, "tiny.xml")], { lib: "../../lib/" }),
);

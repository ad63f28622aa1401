/** The command line of the bench. */
import { expect } from "bun:test";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { requires } from "../helpers/requires.ts";

const RUN = join(import.meta.dir, "../../bench/run.ts");

requires.test(
  [requires.program("cc", "gcc")],
  "a question that there is not is an error, not an empty table",
  () => {
    const { status, stderr } = spawnSync(process.execPath, [RUN, "wrap", "wrap.nothing"], { encoding: "utf8" });
    expect([status, stderr]).toEqual([2, "Cannot measure wrap.nothing: there is no such question\n"]);
  },
  60_000,
);

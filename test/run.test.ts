import { expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { join } from "node:path";

test("npm test with an argument that no test file matches fails and says so", () => {
  const script = join(import.meta.dirname, "run.ts");
  const { status, stdout, stderr } = spawnSync(process.execPath, [script, "no-such-file"], { encoding: "utf8" });
  expect(stdout).toBe("");
  expect(stderr).toBe('Nothing matches "no-such-file": part of a path such as test/wrap is wanted\n');
  expect(status).toBe(1);
});

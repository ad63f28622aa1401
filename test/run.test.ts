import { expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { makeRuntimeDir } from "./helpers/runtime-dir.ts";

test("npm test with an argument that no test file matches fails and says so", () => {
  const script = join(import.meta.dirname, "run.ts");
  const { status, stdout, stderr } = spawnSync(process.execPath, [script, "no-such-file"], { encoding: "utf8" });
  expect(stdout).toBe("");
  expect(stderr).toBe('Nothing matches "no-such-file": part of a path such as test/wrap is wanted\n');
  expect(status).toBe(1);
});

test("a fixture program is compiled where the driver removes it", () => {
  using work = makeRuntimeDir();
  const helper = join(import.meta.dirname, "helpers/wrapped.ts");
  const script = `import { compileFixture } from "${helper}"; console.log(compileFixture("try-calls"))`;
  const env = { ...process.env, SHMLINK_TEST_WORK: work.path };
  const { stdout } = spawnSync(process.execPath, ["-e", script], { encoding: "utf8", env });
  expect(stdout).toStartWith(`${work.path}/`);
});

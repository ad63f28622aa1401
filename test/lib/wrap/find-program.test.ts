import { expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { CommandError } from "../../../lib/wrap/errors.ts";
import { findProgram } from "../../../lib/wrap/find-program.ts";
import { requires } from "../../helpers/requires.ts";
import { makeRuntimeDir } from "../../helpers/runtime-dir.ts";

function exitCodeOf(action: () => unknown): number {
  try {
    action();
  } catch (error) {
    if (error instanceof CommandError) return error.exitCode;
    throw error;
  }
  return 0;
}

test("findProgram() takes the first executable of the search path", () => {
  using dir = makeRuntimeDir();
  for (const folder of ["a", "b", "c"]) mkdirSync(`${dir.path}/${folder}`);
  writeFileSync(`${dir.path}/a/tool`, "");
  chmodSync(`${dir.path}/a/tool`, 0o644);
  for (const folder of ["b", "c"]) writeFileSync(`${dir.path}/${folder}/tool`, "#!/bin/sh\n", { mode: 0o755 });
  const search = ["a", "b", "c"].map((folder) => `${dir.path}/${folder}`).join(":");
  expect(findProgram("tool", search)).toBe(`${dir.path}/b/tool`);
});

test("findProgram() tells a missing program (127) from one that cannot be executed (126)", () => {
  using dir = makeRuntimeDir();
  writeFileSync(`${dir.path}/data`, "");
  chmodSync(`${dir.path}/data`, 0o644);
  expect(exitCodeOf(() => findProgram("nosuch", dir.path))).toBe(127);
  expect(exitCodeOf(() => findProgram("", dir.path))).toBe(127);
  expect(exitCodeOf(() => findProgram(`${dir.path}/nosuch`, ""))).toBe(127);
  expect(exitCodeOf(() => findProgram("data", dir.path))).toBe(126);
  expect(exitCodeOf(() => findProgram(dir.path, ""))).toBe(126);
});

test("findProgram() says what is in the way", () => {
  using dir = makeRuntimeDir();
  writeFileSync(`${dir.path}/data`, "", { mode: 0o644 });
  symlinkSync("loop", `${dir.path}/loop`);
  const find =
    (name: string, search = ""): (() => string) =>
    () =>
      findProgram(name, search);
  expect(find(`${dir.path}/nosuch`)).toThrow(`Cannot run "${dir.path}/nosuch": no such file`);
  expect(find(`${dir.path}/data`)).toThrow(`Cannot run "${dir.path}/data": it is not executable`);
  expect(find("data", `/nosuch:${dir.path}`)).toThrow(`Cannot run "${dir.path}/data": it is not executable`);
  expect(find(dir.path)).toThrow(`Cannot run "${dir.path}": it is a directory`);
  expect(find(`${dir.path}/data/a/b`)).toThrow(
    `Cannot run "${dir.path}/data/a/b": "${dir.path}/data" is not a folder (ENOTDIR)`,
  );
  expect(exitCodeOf(find(`${dir.path}/data/a/b`))).toBe(126);
  expect(find(`${dir.path}/loop`)).toThrow(`Cannot run "${dir.path}/loop": it cannot be looked up (ELOOP)`);
});

const AS_NOBODY = `
  import { findProgram } from ${JSON.stringify(join(import.meta.dir, "../../../lib/wrap/find-program.ts"))};
  process.setgid?.(65534);
  process.setuid?.(65534);
  try {
    findProgram(process.argv[1] ?? "", "");
  } catch (error) {
    console.log(error.exitCode, error.message);
  }
`;

requires.test([requires.root()], "findProgram() names the folder that another user may not search", () => {
  using dir = makeRuntimeDir();
  chmodSync(dir.path, 0o755);
  mkdirSync(`${dir.path}/closed/deep`, { recursive: true, mode: 0o700 });
  const program = `${dir.path}/closed/deep/tool`;
  const { stdout } = spawnSync(process.execPath, ["-e", AS_NOBODY, program], { encoding: "utf8" });
  expect(stdout).toBe(`126 Cannot run "${program}": folder "${dir.path}/closed" may not be searched (EACCES)\n`);
});

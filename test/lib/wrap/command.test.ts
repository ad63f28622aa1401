import { expect, test } from "bun:test";
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { findProgram } from "../../../lib/wrap/command.ts";
import { CommandError } from "../../../lib/wrap/errors.ts";
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

/** Development: what the scripts that compile C into committed code share. Needs Debian 12's gcc. */
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { basename } from "node:path";

// Freestanding and without tables: what is not in .text does not come along.
const FLAGS =
  "-std=c11 -Wall -Wextra -Werror -ffreestanding -fPIC -fno-stack-protector -fno-asynchronous-unwind-tables " +
  "-fno-unwind-tables -fno-tree-loop-distribute-patterns -fno-jump-tables -fno-tree-switch-conversion";

export function run(program: string, ...args: readonly string[]): string {
  return execFileSync(program, args, { encoding: "utf8" });
}

/** @param optimise  such as "-O2" */
export function compileObject(source: string, object: string, optimise: string): void {
  run("x86_64-linux-gnu-gcc", optimise, ...FLAGS.split(" "), "-c", "-o", object, source);
}

/** The lines of a string constant. */
export function hexLines(hex: string): string {
  return (hex.match(/.{1,112}/g) ?? []).map((part) => `  "${part}"`).join(" +\n");
}

/** Writes what was generated; with `--check` on the command line it only compares, and fails when they differ. Another
 *  version of gcc gives other code that is as good, so the version that made it is part of the file. */
export function writeOrCompare(target: string, source: string, generate: (version: string) => string): void {
  const version = run("x86_64-linux-gnu-gcc", "-dumpfullversion").trim();
  const isCheck = process.argv.includes("--check");
  const committed = /with gcc ([\d.]+)/.exec(isCheck ? readFileSync(target, "utf8") : "")?.[1];
  if (!isCheck) writeFileSync(target, generate(version));
  else if (committed !== version) console.error(`Not compared: made with gcc ${committed}, and here is ${version}`);
  else if (readFileSync(target, "utf8") !== generate(version)) {
    console.error(`"ffi/machine/${basename(target)}" is not what ${basename(source)} compiles to: run "npm run gen"`);
    process.exit(1);
  }
}

/**
 * How long commands take from start to end, as an installed package starts them: in a checkout the launcher looks at
 * every source first. The floor is the runtime with a program that does nothing, kept as bytecode as ours is.
 */
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { BUN, ROOT } from "../test/helpers/runtimes.ts";
import { median } from "./median.ts";
import type { WrapResult } from "./wrap.ts";
import type { Bench } from "./wrap-stage.ts";

const STARTS = 15;
const TRUE = ["/bin/true"];

export function benchStart(bench: Bench): Promise<WrapResult[]> {
  const shmlink = installedLauncher(bench.folder);
  const commands = {
    bare: TRUE,
    nothing: [BUN.binary, "--no-env-file", "--no-install", "--config=/dev/null", emptyProgram(bench.folder)],
    wrap: [shmlink, "wrap", "--", ...TRUE],
    ls: [shmlink, "ls"],
  };
  const times = takeTurns(bench, commands);
  const bare = { baseline: times.bare, baselineName: "bare" } as const;
  const row = (id: string, value: number, beside: typeof bare | { baseline: number; baselineName: string }) => {
    return { id, unit: "ms", value, ...beside, ratio: value / beside.baseline } as const;
  };
  const floor = times.nothing - times.bare;
  return Promise.resolve([
    { ...row("wrap.start.ms", times.wrap - times.bare, bare), asked: "value <= 40" }, // what wrap adds
    row("wrap.start.floor.ms", floor, bare),
    {
      ...row("wrap.start.ls.ms", times.ls, { baseline: times.nothing, baselineName: "empty program" }),
      asked: "value <= 25",
    },
  ]);
}

/** Medians, milliseconds. */
function takeTurns<T extends string>(
  bench: Bench,
  commands: Readonly<Record<T, readonly string[]>>,
): Record<T, number> {
  const names = Object.keys(commands) as T[];
  const times = new Map<T, number[]>(names.map((name) => [name, []]));
  for (let round = -1; round < STARTS; round++) {
    for (const name of names) {
      const start = performance.now();
      bench.run(commands[name], "nothing");
      if (round >= 0) times.get(name)?.push(performance.now() - start); // the first starts the broker
    }
  }
  return Object.fromEntries(names.map((name) => [name, median(times.get(name) ?? [])])) as Record<T, number>;
}

/** The launcher as npm would have installed it: beside no tests. */
function installedLauncher(folder: string): string {
  const bin = join(folder, "package", "bin");
  mkdirSync(bin, { recursive: true });
  copyFileSync(join(ROOT, "bin/shmlink"), join(bin, "shmlink"));
  for (const name of ["dist", "lib", "ffi", "node_modules"])
    symlinkSync(join(ROOT, name), join(folder, "package", name));
  return join(bin, "shmlink");
}

function emptyProgram(folder: string): string {
  writeFileSync(join(folder, "empty.ts"), "\n");
  const options = ["--target=bun", "--format=cjs", "--bytecode", `--outdir=${join(folder, "empty")}`];
  execFileSync(BUN.binary, ["build", join(folder, "empty.ts"), ...options], { stdio: "ignore" });
  return join(folder, "empty", "empty.js");
}

/**
 * `npm run check`: what can be said of the sources without running them. Each step prints a line; a step that fails
 * prints what it said. Exit status 1 when one failed.
 */
import { join } from "node:path";
import { runCommand } from "./helpers/command.ts";
import { findProgram } from "./helpers/requires.ts";
import { BUN, DENO, ROOT } from "./helpers/runtimes.ts";

export type Step = {
  readonly name: string;
  readonly why: string;
  /** A sentence when the step cannot run here. */
  readonly unless?: string | undefined;
  readonly command: readonly string[];
};

const tool = (path: string, ...args: string[]): string[] => ["node", join(ROOT, "node_modules", path), ...args];

const assembler = ["x86_64-linux-gnu-as", "aarch64-linux-gnu-as"].find((name) => findProgram(name) === undefined);
const compiler = ["x86_64-linux-gnu-gcc"].find((name) => findProgram(name) === undefined);

const STEPS: readonly Step[] = [
  {
    name: "lint",
    why: "one style, and no floating promise, any or unfinished switch",
    command: tool("@biomejs/biome/bin/biome", "check", "--error-on-warnings", "--max-diagnostics=100"),
  },
  { name: "types", why: "strict TypeScript, tests included", command: tool("typescript/bin/tsc", "-p", ROOT) },
  {
    name: "types-deno",
    why: "Deno's own declarations accept the library",
    command: [DENO.binary, "check", "--quiet", "lib/mod.ts"],
  },
  {
    name: "layers",
    why: "imports go down the levels, in no circle",
    command: tool(
      "dependency-cruiser/bin/dependency-cruise.mjs",
      ...["--config", ".dependency-cruiser.cjs", "bin", "lib", "ffi", "test", "bench"],
    ),
  },
  { name: "dead-code", why: "no file, export or dependency that nobody uses", command: tool("knip/bin/knip.js") },
  {
    name: "protocol",
    why: "the committed codec is what the XML gives",
    command: BUN.command("lib/protocol/scanner.ts", "--check"),
  },
  {
    name: "machine-code",
    why: "the committed machine code is what the assembly gives",
    unless: assembler && `"${assembler}" is not installed (Debian: binutils, binutils-aarch64-linux-gnu)`,
    command: BUN.command("ffi/machine/assemble.ts", "--check"),
  },
  {
    name: "record-path",
    why: "the committed machine code is what the C gives",
    unless: compiler && `"${compiler}" is not installed (Debian: gcc)`,
    command: BUN.command("ffi/machine/compile.ts", "--check"),
  },
  {
    name: "trap-path",
    why: "the committed machine code is what the C gives",
    unless: compiler && `"${compiler}" is not installed (Debian: gcc)`,
    command: BUN.command("ffi/machine/compile-entries.ts", "--check"),
  },
  {
    name: "docs",
    why: "every link in the documentation of the library leads somewhere",
    command: tool("typedoc/bin/typedoc", "--emit", "none", "--treatWarningsAsErrors", "--options", ".ci/typedoc.json"),
  },
  { name: "launcher", why: "POSIX shell", command: ["sh", "-n", "bin/shmlink"] },
  { name: "ci-script", why: "bash", command: ["sh", "-c", "bash -n .ci/run && bash -n .ci/nightly"] },
  {
    name: "lockfile",
    why: "no registry is written down in it",
    command: ["sh", "-c", '! grep -nE "\\"resolved\\"|registry\\.npmjs" package-lock.json'],
  },
];

async function runStep({ name, why, unless, command }: Step): Promise<"passed" | "failed" | "skipped"> {
  if (unless !== undefined) {
    console.log(`skip  ${name}: ${unless}`);
    return process.env["SHMLINK_TEST_STRICT"] === "1" ? "failed" : "skipped";
  }
  const { code, output, seconds } = await runCommand(command, { limitMs: 180_000 });
  console.log(`${code === 0 ? "ok  " : "FAIL"}  ${name.padEnd(13)} ${seconds.toFixed(1).padStart(5)} s  ${why}`);
  if (code !== 0) console.log(output.trim());
  return code === 0 ? "passed" : "failed";
}

/** Runs every step whose files are there. @returns how many passed and failed */
export async function runChecks(): Promise<{ readonly passed: number; readonly failed: number }> {
  const outcomes: string[] = [];
  for (const step of STEPS) outcomes.push(await runStep(step));
  const count = (wanted: string): number => outcomes.filter((outcome) => outcome === wanted).length;
  return { passed: count("passed"), failed: count("failed") };
}

if (import.meta.main) {
  const { failed } = await runChecks();
  process.exitCode = failed === 0 ? 0 : 1;
}

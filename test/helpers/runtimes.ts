/**
 * The runtimes that shmlink runs on and how to run an entry on each. Bun and Deno take the sources; Node takes what
 * tsc emits to dist/, test programs included, which is brought up to date before the first use.
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, rmdirSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";

/** The checkout, also when this file was emitted to dist/test/helpers. */
export const ROOT: string = join(import.meta.dirname, import.meta.url.endsWith(".ts") ? "../.." : "../../..");

export type RuntimeName = "bun" | "deno" | "node";

export type Runtime = {
  readonly name: RuntimeName;
  readonly binary: string;
  /** The command line that runs `entry`, a .ts file relative to the checkout, with `args`. */
  command(entry: string, ...args: readonly string[]): string[];
};

const MODULES = join(ROOT, "node_modules");
const ARCH = { x64: { bun: "x64", deno: "x64" }, arm64: { bun: "aarch64", deno: "arm64" } }[
  process.arch as "x64" | "arm64"
];

/** Where the npm packages carry binaries that do not start (NixOS), SHMLINK_TEST_BUN and SHMLINK_TEST_DENO name others.
 *  npm with install scripts moves the real binary into bun/ and deno/; without, those hold a stub. */
function firstExisting(name: string, paths: readonly string[]): string {
  const found = paths.map((path) => join(MODULES, path)).find((path) => existsSync(path));
  if (found === undefined) throw new Error(`Cannot find "${name}" in "${MODULES}": run "npm ci"`);
  return found;
}

function findBun(): string {
  const given = process.env["SHMLINK_TEST_BUN"];
  if (given !== undefined) return given;
  const platform = `@oven/bun-linux-${ARCH.bun}`;
  return firstExisting("bun", [`${platform}/bin/bun`, `${platform}-musl/bin/bun`, "bun/bin/bun.exe"]);
}

function findDeno(): string {
  const given = process.env["SHMLINK_TEST_DENO"];
  if (given !== undefined) return given;
  return firstExisting("deno", [`@deno/linux-${ARCH.deno}-glibc/deno`, "deno/deno"]);
}

export const BUN: Runtime = {
  name: "bun",
  binary: findBun(),
  command: (entry, ...args) => [BUN.binary, "--no-env-file", "--no-install", join(ROOT, entry), ...args],
};

export const DENO: Runtime = {
  name: "deno",
  binary: findDeno(),
  command: (entry, ...args) => [
    DENO.binary,
    "run",
    "--quiet",
    "-A",
    "--config",
    join(ROOT, "deno.json"),
    join(ROOT, entry),
    ...args,
  ],
};

export const NODE: Runtime = {
  name: "node",
  binary: "node",
  command(entry, ...args) {
    buildForNode();
    return [NODE.binary, join(ROOT, "dist", entry.replace(/\.ts$/, ".js")), ...args];
  },
};

export const RUNTIMES: readonly Runtime[] = [BUN, DENO, NODE];

const STAMP = join(ROOT, "dist/.built");
const LOCK = join(ROOT, "dist.lock");

function newestSource(folder: string): number {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true });
  const sources = entries.filter((entry) => entry.isFile() && entry.name.endsWith(".ts"));
  return Math.max(0, ...sources.map((entry) => statSync(join(entry.parentPath, entry.name)).mtimeMs));
}

function isFresh(): boolean {
  if (!existsSync(STAMP)) return false;
  const built = statSync(STAMP).mtimeMs;
  return ["bin", "lib", "ffi", "test", "bench"].every((folder) => newestSource(join(ROOT, folder)) < built);
}

/** Emits the sources and the test programs to dist/ where they are older than what was written since. Types are not
 *  checked: that is a check of its own. Two test files that need it at once wait for one another. */
export function buildForNode(): void {
  if (isFresh()) return;
  withLock(() => {
    if (isFresh()) return;
    const started = new Date();
    execFileSync("node", [join(MODULES, "typescript/bin/tsc"), "-p", join(ROOT, "tsconfig.test.json")], {
      stdio: "pipe",
    });
    writeFileSync(STAMP, `${relative(ROOT, STAMP)} is as old as the last emit\n`);
    utimesSync(STAMP, started, started);
  });
}

function withLock(action: () => void): void {
  const giveUp = Date.now() + 120_000; // a lock that a killed run left behind
  for (;;) {
    try {
      mkdirSync(LOCK);
      break;
    } catch {
      if (Date.now() > giveUp) throw new Error(`Cannot build: remove "${LOCK}" if no other test run is building`);
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50);
    }
  }
  try {
    action();
  } finally {
    rmdirSync(LOCK);
  }
}

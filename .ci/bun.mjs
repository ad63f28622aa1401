/**
 * Runs `bun` with the given arguments: `node .ci/bun.mjs test/run.ts`. Finds the real binary where npm skipped install
 * scripts and left only a stub in node_modules/.bin, and hands signals and the exit status on.
 */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const MODULES = join(dirname(dirname(fileURLToPath(import.meta.url))), "node_modules");
const ARCH = process.arch === "arm64" ? "aarch64" : process.arch;

// With install scripts run, the platform package is emptied into bun/bin; without, bun/bin holds a stub.
const candidates = [`@oven/bun-linux-${ARCH}`, `@oven/bun-linux-${ARCH}-musl`].map((name) => `${name}/bin/bun`);
const inModules = [...candidates, "bun/bin/bun.exe"]
  .map((path) => join(MODULES, path))
  .find((path) => existsSync(path));

// Where the packaged binary does not start (NixOS), SHMLINK_TEST_BUN names another.
const bun = process.env.SHMLINK_TEST_BUN ?? inModules ?? "bun";
const child = spawn(bun, process.argv.slice(2), { stdio: "inherit" });
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
child.on("error", (error) => {
  console.error(`Cannot run bun: ${error.message}; run "npm ci" first`);
  process.exitCode = 1;
});
child.on("exit", (code, signal) => {
  process.exitCode = code ?? 128;
  if (signal !== null) process.kill(process.pid, signal);
});

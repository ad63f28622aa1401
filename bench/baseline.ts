/** Builds the C programs in bench/c and runs them; each prints the nanoseconds of one operation. */
import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { fileURLToPath } from "node:url";

const SOURCES: string = fileURLToPath(new URL("c/", import.meta.url));
/** Where the programs are, with a slash. */
export const BUILD: string = fileURLToPath(new URL("../build/bench/", import.meta.url));

const PROGRAMS = ["ring", "socket", "wake", "load", "trap"];

export type Baseline = "ring" | "socket" | "wake" | "sync" | "relay" | "dial";

function build(name: string, ...libraries: readonly string[]): void {
  const args = ["-O2", "-std=gnu11", "-Wall", "-o", `${BUILD}${name}`, `${SOURCES}${name}.c`, ...libraries];
  execFileSync("cc", args, { stdio: "inherit" });
}

/** Compiles those of rings and wrapped programs. @throws Error when there is no cc */
export function buildBaselines(): void {
  mkdirSync(BUILD, { recursive: true });
  for (const name of PROGRAMS) build(name);
}

/** Compiles those that the broker is measured against. @throws Error when there is no cc or no libwayland-dev */
export function buildWithWayland(): void {
  mkdirSync(BUILD, { recursive: true });
  for (const name of ["relay", "dial"]) build(name);
  build("sync", "-lwayland-client", "-lwayland-server");
}

/** @returns nanoseconds for each operation */
export function runBaseline(name: Baseline, ...args: readonly (string | number)[]): number {
  return Number(execFileSync(`${BUILD}${name}`, args.map(String), { encoding: "utf8" }));
}

/** Builds the C programs in bench/c and runs them; each prints the nanoseconds of one operation. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { fileURLToPath } from "node:url";

const SOURCES: string = fileURLToPath(new URL("c/", import.meta.url));
/** Where the programs are, with a slash. */
export const BUILD: string = fileURLToPath(new URL("../build/bench/", import.meta.url));

const PROGRAMS = ["ring", "socket", "wake", "load", "trap", "handoff", "filtered"];

/** A ring for messages of 1 MiB. */
const LARGE = "-DCAPACITY=(1u << 22)";

export type Baseline = "ring" | "ring-large" | "socket" | "wake" | "sync" | "relay" | "dial" | "broker-dial" | "dbus";

function build(name: string, ...options: readonly string[]): void {
  const source = options.includes(LARGE) ? "ring" : name;
  const args = ["-O2", "-std=gnu11", "-Wall", "-o", `${BUILD}${name}`, `${SOURCES}${source}.c`, ...options];
  execFileSync("cc", args, { stdio: "inherit" });
}

/** Compiles those of rings and wrapped programs. @throws Error when there is no cc */
export function buildBaselines(): void {
  mkdirSync(BUILD, { recursive: true });
  for (const name of PROGRAMS) build(name);
  build("ring-large", LARGE);
}

/** Compiles those that the broker is measured against. @throws Error when there is no cc or no libwayland-dev */
export function buildWithWayland(): void {
  mkdirSync(BUILD, { recursive: true });
  for (const name of ["relay", "dial", "broker-dial"]) build(name);
  build("sync", "-lwayland-client", "-lwayland-server");
}

/** Compiles the client of dbus-broker. @returns what is missing for it */
export function buildForDbus(): string | undefined {
  const missing = (words: readonly [string, ...string[]]): boolean => {
    const [program, ...args] = words;
    return spawnSync(program, args, { stdio: "ignore" }).status !== 0;
  };
  if (missing(["dbus-broker", "--version"])) return "dbus-broker is not installed";
  if (missing(["cc", "-E", "-include", "systemd/sd-bus.h", "-x", "c", "/dev/null"]))
    return "libsystemd-dev is not installed";
  build("dbus", "-lsystemd");
  return undefined;
}

/** @returns nanoseconds of a round trip: p50, p99, p99.9 */
export function runPercentiles(name: Baseline, ...args: readonly (string | number)[]): [number, number, number] {
  const output = execFileSync(`${BUILD}${name}`, args.map(String), { encoding: "utf8" });
  const [p50 = Number.NaN, p99 = Number.NaN, p999 = Number.NaN] = output.trim().split(" ").map(Number);
  return [p50, p99, p999];
}

/** @returns nanoseconds for each operation */
export function runBaseline(name: Baseline, ...args: readonly (string | number)[]): number {
  return Number(execFileSync(`${BUILD}${name}`, args.map(String), { encoding: "utf8" }));
}

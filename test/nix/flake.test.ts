/** flake.nix evaluates, builds and opens its shell, offline, against a stand-in for nixpkgs and a store of its own. */
import { afterAll, beforeAll, describe, expect } from "bun:test";
import { spawnSync } from "node:child_process";
import { chmodSync, cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { requires } from "../helpers/requires.ts";
import { ROOT } from "../helpers/runtimes.ts";

const SOURCES = ["flake.nix", "package.json", "package-lock.json", "bin", "ffi"];
const needs = [requires.program("nix", "nix-bin")];
const met = needs.every(({ missing }) => missing === undefined);

let work = "";
const at = (name: string): string => join(work, name);

/** Everything nix keeps lies under `work`: no daemon, no /nix, no network. */
function nix(...args: readonly string[]): { readonly status: number | null; readonly output: string } {
  const offline = ["--offline", "--no-write-lock-file", "--override-input", "nixpkgs", `path:${at("stub")}`];
  const env = {
    PATH: process.env["PATH"] ?? "",
    HOME: at("home"),
    NIX_CONF_DIR: at("conf"),
    NIX_LOCALSTATE_DIR: at("var"),
    NIX_LOG_DIR: at("log"),
    NIX_STATE_DIR: at("var"),
    TMPDIR: work, // it leaves a folder there
    NIX_STORE_DIR: at("store"),
  };
  const [verb = "", ...rest] = args;
  const words = verb.split(" ");
  const { status, stdout, stderr } = spawnSync("nix", [...words, ...offline, `path:${at("flake")}`, ...rest], {
    env,
    encoding: "utf8",
  });
  return { status, output: `${stdout}\n${stderr}` };
}

beforeAll(() => {
  if (!met) return;
  work = mkdtempSync("/tmp/shm-nix-");
  for (const name of ["home", "conf", "flake"]) mkdirSync(at(name));
  for (const name of SOURCES) cpSync(join(ROOT, name), join(at("flake"), name), { recursive: true });
  cpSync(join(ROOT, "test/nix/nix.conf"), join(at("conf"), "nix.conf"));
  cpSync(join(ROOT, "test/nix/stub"), at("stub"), { recursive: true });
});

/** What nix put into its store is read-only, folders included. */
function makeWritable(folder: string): void {
  chmodSync(folder, 0o700);
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    if (entry.isDirectory()) makeWritable(join(folder, entry.name));
  }
}

afterAll(() => {
  if (work === "") return;
  makeWritable(work);
  rmSync(work, { recursive: true });
});

describe("flake.nix", () => {
  requires.test(needs, "offers package, shell and check for both systems", () => {
    const { status, output } = nix("flake show", "--json");
    expect([status, output]).toEqual([0, expect.stringContaining("{")]);
    const shown = JSON.parse(output.slice(output.indexOf("{"), output.lastIndexOf("}") + 1)) as Record<string, object>;
    for (const kind of ["packages", "devShells", "checks"]) {
      expect(Object.keys(shown[kind] ?? {}).sort()).toEqual(["aarch64-linux", "x86_64-linux"]);
    }
  });

  requires.test(needs, "passes nix flake check, with an address for every package of the lockfile", () => {
    const { status, output } = nix("flake check");
    expect([status, output]).toEqual([0, expect.any(String)]);
  });

  requires.test(needs, "builds the package from the sources alone", () => {
    const { status, output } = nix("build", "--no-link");
    expect([status, output]).toEqual([0, expect.any(String)]);
  });

  requires.test(needs, "opens a shell that names the runtimes for the tests", () => {
    const { status, output } = nix("develop", "-c", "sh", "-c", "echo $SHMLINK_TEST_BUN $SHMLINK_TEST_DENO");
    expect([status, output]).toEqual([0, expect.stringMatching(/-bun\/bin\/bun .*-deno\/bin\/deno/)]);
  });
});

/** The npm package: what is in it, and that a project which installed it can import it on every runtime. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { VERSION } from "../lib/version.ts";
import { BUN, buildForNode, DENO, NODE, ROOT } from "./helpers/runtimes.ts";

type Manifest = {
  readonly version: string;
  readonly dependencies: Readonly<Record<string, string>>;
  readonly exports: Readonly<Record<string, Readonly<Record<string, string>> | string>>;
};

const manifest = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as Manifest;

let project = "";
const installed = (path: string): string => join(project, "node_modules/shmlink", path);

/** As npm installs it: the packed files, beside what it depends on. */
beforeAll(() => {
  buildForNode();
  project = mkdtempSync("/tmp/shm-package-");
  const pack = ["pack", "--ignore-scripts", "--silent", "--pack-destination", project];
  const file = execFileSync("npm", pack, { cwd: ROOT, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] }).trim();
  mkdirSync(installed("."), { recursive: true });
  execFileSync("tar", ["xzf", join(project, file), "-C", installed("."), "--strip-components=1"]);
  for (const name of Object.keys(manifest.dependencies)) {
    symlinkSync(join(ROOT, "node_modules", name), join(project, "node_modules", name));
  }
  writeFileSync(join(project, "package.json"), '{ "type": "module", "dependencies": { "shmlink": "*" } }');
  writeFileSync(join(project, "use.js"), 'import { VERSION } from "shmlink";\nconsole.log(VERSION);\n');
});

afterAll(() => rmSync(project, { recursive: true }));

describe("the npm package", () => {
  test("has the launcher, executable, the sources, the built library, units and configuration", () => {
    expect(spawnSync("test", ["-x", installed("bin/shmlink")]).status).toBe(0);
    const paths = ["bin/shmlink.ts", "lib/mod.ts", "ffi/mod.ts", "dist/bin/shmlink.js", "dist/lib/mod.js", "deno.json"];
    const others = ["LICENSE", "lib/protocol/shmlink-v1.xml", "systemd", "config"];
    expect([...paths, ...others].filter((path) => !existsSync(installed(path)))).toEqual([]);
    expect(["test", "dist/test", "bench", "node_modules", ".ci"].filter((path) => existsSync(installed(path)))).toEqual(
      [],
    );
  });

  test("has every file that its exports name, declarations aside", () => {
    const targets = Object.values(manifest.exports).flatMap((value) =>
      typeof value === "string" ? value : Object.values(value),
    );
    const code = targets.filter((path) => !path.endsWith(".d.ts")); // written by `npm run build`, which a test run may skip
    expect(code.filter((path) => !existsSync(installed(path)))).toEqual([]);
  });

  test("says one version everywhere", () => expect(VERSION).toBe(manifest.version));

  for (const [runtime, command] of [
    ["bun", [BUN.binary, "use.js"]],
    ["deno", [DENO.binary, "run", "--quiet", "-A", "--node-modules-dir=manual", "use.js"]],
    ["node", [NODE.binary, "use.js"]],
  ] as const) {
    test(`is imported on ${runtime}`, () => {
      const [program, ...args] = command;
      const { stdout, stderr } = spawnSync(program, args, { cwd: project, encoding: "utf8" });
      expect([stdout, stderr]).toEqual([`${VERSION}\n`, ""]);
    });
  }

  test("starts its command line from node_modules, on a runtime in PATH or on Node", () => {
    const { stdout, status } = spawnSync(installed("bin/shmlink"), ["--version"], {
      cwd: project,
      env: { ...process.env, SHMLINK_RUNTIME: "node" },
      encoding: "utf8",
    });
    expect([stdout, status]).toEqual([`shmlink ${VERSION}\n`, 0]);
  });
});

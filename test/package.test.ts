/** The npm package: what is in it, and that a project which installed it can import it on every runtime. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { execFileSync, spawnSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { VERSION } from "../lib/version.ts";
import { TestBroker } from "./helpers/broker.ts";
import { BUN, buildForNode, DENO, NODE, ROOT } from "./helpers/runtimes.ts";

type Manifest = {
  readonly version: string;
  readonly dependencies: Readonly<Record<string, string>>;
  readonly exports: Readonly<Record<string, Readonly<Record<string, string>> | string>>;
};

const manifest = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as Manifest;

let project = "";
const installed = (path: string): string => join(project, "node_modules/shmlink", path);

/** Where the package is built, and no longer when it is used. */
const checkout = (path: string): string => join(project, "checkout", path);

/** As npm installs it: the packed files, beside what it depends on, and bundles that were built elsewhere. */
beforeAll(() => {
  buildForNode();
  project = mkdtempSync("/tmp/shm-package-");
  const pack = ["pack", "--ignore-scripts", "--silent", "--pack-destination", project];
  const file = execFileSync("npm", pack, { cwd: ROOT, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] }).trim();
  mkdirSync(checkout("."));
  execFileSync("tar", ["xzf", join(project, file), "-C", checkout("."), "--strip-components=1"]);
  cpSync(join(ROOT, ".ci"), checkout(".ci"), { recursive: true });
  symlinkSync(join(ROOT, "node_modules"), checkout("node_modules"));
  execFileSync(BUN.binary, [checkout(".ci/bundle.mjs")], { stdio: "pipe" });
  for (const path of [".ci", "node_modules"]) rmSync(checkout(path), { recursive: true });
  mkdirSync(join(project, "node_modules"));
  renameSync(checkout("."), installed("."));
  for (const name of Object.keys(manifest.dependencies)) {
    symlinkSync(join(ROOT, "node_modules", name), join(project, "node_modules", name));
  }
  writeFileSync(join(project, "package.json"), '{ "type": "module", "dependencies": { "shmlink": "*" } }');
  writeFileSync(join(project, "use.js"), 'import { VERSION } from "shmlink";\nconsole.log(VERSION);\n');
}, 180_000);

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

  test("says nowhere in its bundles where it was built", () => {
    const bundles = readdirSync(installed("dist/bundle"));
    expect(bundles).toContain("shmlink.js");
    const naming = bundles.filter((name) => readFileSync(installed(`dist/bundle/${name}`)).includes(checkout("")));
    expect(naming).toEqual([]);
  });

  test("starts a broker and installs units from where it lies, also when it was built elsewhere", async () => {
    await using broker = new TestBroker();
    symlinkSync(BUN.binary, join(broker.directory, "bun"));
    const env = {
      ...broker.env,
      PATH: `${broker.directory}:${process.env["PATH"]}`,
      SHMLINK_RUNTIME: "bun",
      XDG_CONFIG_HOME: broker.directory,
    };
    const shmlink = (...words: readonly string[]): string =>
      execFileSync(installed("bin/shmlink"), words, { cwd: project, env, encoding: "utf8", stdio: "pipe" });

    const { pid } = (JSON.parse(shmlink("ls", "--json")) as { broker: { owner: { pid: number } } }).broker.owner;
    const [, entry, verb] = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
    expect([entry, verb]).toEqual([installed("dist/bundle/shmlink.js"), "broker"]);

    shmlink("install");
    const unit = readFileSync(join(broker.directory, "systemd/user/shmlink.service"), "utf8");
    expect(unit).toContain(`ExecStart=${installed("bin/shmlink")} broker`);
  }, 60_000);
});

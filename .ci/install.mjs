/**
 * Installs what package-lock.json names, and does nothing when node_modules already holds all of it.
 * Plain Node 20, no dependency: it runs before there are any. `npm start`, `npm test` and the others call it first.
 */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));

function readPackages(path) {
  try {
    return JSON.parse(readFileSync(join(ROOT, path), "utf8")).packages ?? {};
  } catch {
    return {};
  }
}

/** npm writes what it installed into node_modules/.package-lock.json; optional packages are for other platforms. */
function findMissing() {
  const installed = readPackages("node_modules/.package-lock.json");
  const wanted = Object.entries(readPackages("package-lock.json")).filter(([path]) => path !== "");
  return wanted
    .filter(([path, entry]) => !(entry.optional && installed[path] === undefined))
    .filter(([path, { integrity }]) => {
      return installed[path]?.integrity !== integrity || !existsSync(join(ROOT, path, "package.json"));
    })
    .map(([path]) => path);
}

function install() {
  const missing = findMissing();
  if (missing.length === 0) return 0;
  console.error(`Installing ${missing.length} packages from package-lock.json …`);
  const { status, error, stderr } = spawnSync("npm", ["ci", "--no-audit", "--no-fund", "--loglevel=error"], {
    cwd: ROOT,
    stdio: ["ignore", "ignore", "pipe"],
    encoding: "utf8",
  });
  if (status === 0) return 0;
  console.error(stderr?.split("\n").slice(0, 12).join("\n") ?? "");
  console.error(
    `Cannot install the packages: "npm ci" ${error ? error.message : `ended with ${status}`}; is npm online?`,
  );
  return 1;
}

process.exitCode = install();

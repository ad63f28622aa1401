/**
 * `npm test`: the sources checked, built, and every test file run in a bun of its own, so that one file's crash, leak
 * or endless loop is that file's failure. The last line is `N passed, N failed`; exit status 1 when something failed.
 *
 *     npm test                    everything
 *     npm test -- test/wrap       the test files whose path contains one of the arguments, without the checks
 *
 *   SHMLINK_TEST_JOBS=n   files at a time (2)        SHMLINK_TEST_STRICT=1        a program that is not installed fails
 *                                                    SHMLINK_TEST_SKIP_CHECKS=1   the sources were checked already
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join, relative } from "node:path";
import { runChecks } from "./check.ts";
import { type Finished, runCommand } from "./helpers/command.ts";
import { BUN, buildForNode, ROOT } from "./helpers/runtimes.ts";

const FILE_LIMIT_MS = 300_000;
const TEST_LIMIT_MS = 60_000;

type Tally = { passed: number; failed: number; skipped: string[] };

const total: Tally = { passed: 0, failed: 0, skipped: [] };
const failures: string[] = [];
const work = mkdtempSync("/tmp/shm-test-");

function findTestFiles(filters: readonly string[]): string[] {
  const entries = readdirSync(join(ROOT, "test"), { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile() && entry.name.endsWith(".test.ts"))
    .map((entry) => relative(ROOT, join(entry.parentPath, entry.name)))
    .filter((path) => filters.length === 0 || filters.some((filter) => path.includes(filter)))
    .sort();
}

/** What the shell that called us has set must not reach the tests: its broker, its units, its proxies, its colours. */
function testEnvironment(runtimeDir: string): Record<string, string | undefined> {
  const env: Record<string, string | undefined> = {
    XDG_RUNTIME_DIR: runtimeDir,
    SHMLINK_TEST_WORK: work,
    NO_COLOR: "1",
    FORCE_COLOR: undefined,
  };
  for (const name of Object.keys(process.env)) {
    const ours = name.startsWith("SHMLINK_") && !name.startsWith("SHMLINK_TEST_");
    if (ours || /^(LISTEN_|NOTIFY_SOCKET|WATCHDOG_)|_proxy$/i.test(name)) env[name] = undefined;
  }
  return env;
}

function unescapeXml(text: string): string {
  return text.replace(/&(lt|gt|quot|apos|#39|amp);/g, (_, name: string) => {
    return { lt: "<", gt: ">", quot: '"', apos: "'", "#39": "'", amp: "&" }[name] ?? "";
  });
}

/** Counts from bun's JUnit report; a file that crashed wrote none, and one with an error outside a test says 0 failed. */
function readReport(path: string, { code }: Finished): Tally {
  let report = "";
  try {
    report = readFileSync(path, "utf8");
  } catch {
    return { passed: 0, failed: 1, skipped: [] };
  }
  const cases = report.match(/<testcase\b[^>]*?(\/>|>[\s\S]*?<\/testcase>)/g) ?? [];
  const skipped = cases
    .filter((each) => each.includes("<skipped"))
    .map((each) => /name="([^"]*)"/.exec(each)?.[1] ?? "");
  const failed = cases.filter((each) => each.includes("<failure") || each.includes("<error")).length;
  const passed = cases.length - skipped.length - failed;
  return { passed, failed: failed === 0 && code !== 0 ? 1 : failed, skipped: skipped.map(unescapeXml) };
}

async function runFile(path: string, index: number): Promise<void> {
  const runtimeDir = mkdtempSync(join(work, "r"));
  const report = join(work, `${index}.xml`);
  const options = ["--timeout", String(TEST_LIMIT_MS), "--reporter=junit", `--reporter-outfile=${report}`];
  const command = [BUN.binary, "test", "--no-env-file", ...options, `./${path}`];
  const finished = await runCommand(command, { limitMs: FILE_LIMIT_MS, env: testEnvironment(runtimeDir) });
  const tally = readReport(report, finished);
  record(path, tally, finished);
}

function record(path: string, tally: Tally, { seconds, output, timedOut }: Finished): void {
  total.passed += tally.passed;
  total.failed += tally.failed;
  total.skipped.push(...tally.skipped.map((name) => `${path}: ${name}`));
  const bad = tally.failed > 0;
  const skips = tally.skipped.length === 0 ? "" : `, ${tally.skipped.length} skipped`;
  console.log(
    `${bad ? "FAIL" : "ok  "}  ${path}  ${tally.passed} passed${bad ? `, ${tally.failed} failed` : ""}${skips}  ${seconds.toFixed(1)} s`,
  );
  if (!bad) return;
  failures.push(path);
  console.log(output.trim().replace(/^/gm, "    "));
  if (timedOut) console.log(`    The file did not end within ${FILE_LIMIT_MS / 1000} s and was killed`);
}

async function runFiles(paths: readonly string[]): Promise<void> {
  const queue = [...paths.entries()];
  const jobs = Number(process.env["SHMLINK_TEST_JOBS"] ?? 2);
  const worker = async (): Promise<void> => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) await runFile(next[1], next[0]);
  };
  await Promise.all(Array.from({ length: jobs }, worker));
}

async function build(): Promise<void> {
  const command = ["node", join(ROOT, "node_modules/typescript/bin/tsc"), "-p", join(ROOT, "tsconfig.build.json")];
  const { code, output, seconds } = await runCommand(command, { limitMs: FILE_LIMIT_MS });
  console.log(`${code === 0 ? "ok  " : "FAIL"}  build to dist/ for Node  ${seconds.toFixed(1)} s`);
  if (code === 0) total.passed += 1;
  else {
    total.failed += 1;
    failures.push("build");
    console.log(output.trim());
  }
  buildForNode();
}

async function main(filters: readonly string[]): Promise<void> {
  const paths = findTestFiles(filters);
  if (paths.length === 0) {
    console.error(
      `Nothing matches ${filters.map((filter) => `"${filter}"`).join(", ")}: part of a path such as test/wrap is wanted`,
    );
    process.exitCode = 1;
    return;
  }
  if (filters.length === 0 && process.env["SHMLINK_TEST_SKIP_CHECKS"] !== "1") {
    const { passed, failed } = await runChecks();
    total.passed += passed;
    total.failed += failed;
    if (failed > 0) failures.push("npm run check");
  }
  await build();
  await runFiles(paths);
  for (const name of total.skipped) console.log(`skip  ${name}`);
  for (const path of failures) console.log(`FAIL  ${path}`);
  console.log(`${total.passed} passed, ${total.failed} failed`);
  process.exitCode = total.failed === 0 && total.passed > 0 ? 0 : 1;
}

try {
  await main(process.argv.slice(2));
} finally {
  rmSync(work, { recursive: true, force: true });
}

/** What `npm run bundle` makes: the same commands, without what they do not use. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { isRunning, waitUntil } from "../helpers/broker.ts";
import { BUN, ROOT } from "../helpers/runtimes.ts";

const work = mkdtempSync("/tmp/shm-bundle-");
const env = { PATH: process.env["PATH"] ?? "", SHMLINK_SOCKET: join(work, "run", "broker.sock") };

function run(words: readonly string[]) {
  const { stdout, stderr, status } = spawnSync(BUN.binary, words, { env, cwd: work, encoding: "utf8" });
  return { stdout, stderr, status };
}

const bundled = (name: string, ...words: readonly string[]) => run([join(work, `${name}.js`), ...words]);

beforeAll(() => {
  expect(run([join(ROOT, ".ci/bundle.mjs"), work])).toEqual({ stdout: "", stderr: "", status: 0 });
});

afterAll(async () => {
  const { broker } = JSON.parse(bundled("ls", "ls", "--json").stdout) as { broker: { owner: { pid: number } } };
  process.kill(broker.owner.pid, "SIGTERM");
  await waitUntil(() => !isRunning(broker.owner.pid), "the broker to end"); // it removes files, too
  rmSync(work, { recursive: true });
});

test("each bundle does what its command does, and the whole one does all", () => {
  for (const name of ["ls", "shmlink"]) {
    const { stdout, stderr, status } = bundled(name, "ls", "--json");
    expect([stderr, status]).toEqual(["", 0]);
    expect(JSON.parse(stdout)).toMatchObject({ services: [], broker: { name: "broker" } });
  }
  for (const name of ["wrap", "shmlink"]) {
    const words = ["wrap", "--", "sh", "-c", "echo said; exit 7"];
    expect(bundled(name, ...words)).toEqual({ stdout: "said\n", stderr: "", status: 7 });
  }
  expect(bundled("inspect", "inspect", "absent").status).toBe(1);
  expect(bundled("shmlink", "--version").stdout).toMatch(/^shmlink \d/);
});

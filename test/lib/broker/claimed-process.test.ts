import { afterEach, expect, test } from "bun:test";
import { type ChildProcess, spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { constants, getFileLimit, kill, prctl, setFileLimit } from "../../../ffi/mod.ts";
import { judgeClaim } from "../../../lib/broker/claimed-process.ts";
import { waitUntil } from "../../helpers/broker.ts";
import { requires } from "../../helpers/requires.ts";

const US = { pid: process.pid, uid: process.geteuid?.() ?? -1 };
const started: ChildProcess[] = [];

afterEach(() => {
  for (const child of started.splice(0)) child.stdin?.destroy(); // which ends every one of them
});

/** `sh -c script`, and what it says first. What it starts should end with its stdin. */
async function shell(script: string, command: readonly string[] = []): Promise<{ pid: number; said: number }> {
  const [program = "sh", ...args] = [...command, "sh", "-c", script];
  const child = spawn(program, args, { stdio: ["pipe", "pipe", "inherit"] });
  started.push(child);
  const said = await new Promise<string>((resolve) => child.stdout?.once("data", (data) => resolve(String(data))));
  return { pid: child.pid ?? -1, said: Number(said) };
}

/** Starts a process that reads our pipe, in the background and so with a stdin of its own choosing. */
const BACKGROUND = "cat <&3 & echo $!";

function statusOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/status`, "latin1");
  } catch {
    return "";
  }
}

test("judgeClaim() takes the peer itself and its descendants for its own", async () => {
  const { pid, said } = await shell(`exec 3<&0; ${BACKGROUND}; wait`);
  expect(judgeClaim(US, US.pid)).toEqual({ kind: "own", pid: US.pid });
  expect(judgeClaim(US, pid)).toEqual({ kind: "own", pid });
  expect(judgeClaim(US, said)).toEqual({ kind: "own", pid: said });
});

test("judgeClaim() takes no ancestor and no sibling for the peer's own", async () => {
  const one = await shell("echo 1; read -r _");
  const other = await shell("echo 1; read -r _");
  const why = `it does not descend from process ${one.pid}, the client`;
  for (const claimed of [1, US.pid, other.pid])
    expect(judgeClaim({ ...US, pid: one.pid }, claimed)).toEqual({ kind: "foreign", why });
});

test("judgeClaim() takes another user's process for the peer's own only when the peer is root", async () => {
  const { pid } = await shell("echo 1; read -r _");
  const why = `it is user ${US.uid}'s, the client is user 12345's`;
  expect(judgeClaim({ ...US, uid: 12345 }, pid)).toEqual({ kind: "foreign", why });
  expect(judgeClaim({ ...US, uid: 0 }, pid)).toEqual({ kind: "own", pid });
});

test("judgeClaim() takes a daemon of a subreaper for its own", async () => {
  prctl(constants.PR_SET_CHILD_SUBREAPER, 1);
  try {
    const { said } = await shell(`exec 3<&0; (${BACKGROUND})`);
    await waitUntil(() => statusOf(said).includes(`PPid:\t${US.pid}\n`), "the daemon to be ours");
    expect(judgeClaim(US, said)).toEqual({ kind: "own", pid: said });
  } finally {
    prctl(constants.PR_SET_CHILD_SUBREAPER, 0);
  }
});

test("judgeClaim() says nothing of a process that has ended, and nothing to a peer that has", async () => {
  const { pid } = await shell("echo 1");
  await waitUntil(() => statusOf(pid) === "", "its end");
  expect(judgeClaim(US, pid)).toEqual({ kind: "unknown" });
  expect(judgeClaim({ ...US, pid }, US.pid)).toEqual({ kind: "unknown" });
  expect(judgeClaim({ ...US, pid: 0 }, US.pid)).toEqual({ kind: "unknown" });
});

test("judgeClaim() does not go up without end", async () => {
  const nested = 'if [ "$1" -eq 0 ]; then echo $$; read -r _; else sh -c "$0" "$0" $(($1 - 1)); :; fi';
  const { said } = await shell(`exec 3<&0; sh -c '${nested}' '${nested}' 300; :`);
  expect(judgeClaim(US, said)).toEqual({ kind: "unknown" });
});

test("judgeClaim() says nothing of anybody when there is no descriptor to look with", async () => {
  const { pid } = await shell("echo 1; read -r _");
  const limit = getFileLimit();
  setFileLimit({ ...limit, soft: 0n });
  try {
    expect(() => judgeClaim(US, pid)).toThrow("EMFILE");
  } finally {
    setFileLimit(limit);
  }
  expect(judgeClaim(US, pid)).toEqual({ kind: "own", pid });
});

requires.test(
  [requires.program("unshare", "util-linux"), requires.root()],
  "judgeClaim() finds a process by its number in the peer's pid namespace, and no namesake elsewhere",
  async () => {
    const { pid, said } = await shell(`exec 3<&0; ${BACKGROUND}; wait`, ["unshare", "--pid", "--fork", "--kill-child"]);
    const inside = readdirSync("/proc").filter((name) => statusOf(Number(name)).includes(`PPid:\t${pid}\n`));
    const init = { pid: Number(inside[0]), uid: US.uid };
    expect(said).toBeLessThan(10); // a number that the namespace gave
    const judgement = judgeClaim(init, said);
    expect(judgement.kind).toBe("own");
    const found = judgement.kind === "own" ? judgement.pid : 0;
    expect(statusOf(found)).toMatch(new RegExp(`^NSpid:.*\\t${found}\\t${said}$`, "m"));
    expect(judgeClaim(init, 1)).toEqual({ kind: "own", pid: init.pid });
    expect(judgeClaim(init, US.pid)).toEqual({ kind: "unknown" });
    kill(pid, constants.SIGTERM);
  },
);

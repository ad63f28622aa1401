/** Real containers, each with a context of its own: known by it, whatever user they run as, and joined only by policy. */
import { expect } from "bun:test";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { chmodSync, mkdtempSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import type { BrokerLink } from "../../lib/client/broker-link.ts";
import { CHECKOUT, TestBroker, waitUntil } from "../helpers/broker.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { requires } from "../helpers/requires.ts";

expectNoFdLeaks();

const PODMAN = join(CHECKOUT, "test", "fixtures", "programs", "podman.sh");
const ENTRY = join(CHECKOUT, "bin", "shmlink.ts");
const PROGRAMS = [
  requires.root(),
  requires.program("podman", "podman"),
  requires.program("crun", "crun"),
  requires.program("newuidmap", "uidmap"),
];

/** An ordinary user who may have user ids of his own in a namespace. */
function rootlessUser(): string | undefined {
  try {
    return readFileSync("/etc/subuid", "utf8").split(":")[0] || undefined;
  } catch {
    return undefined;
  }
}

function canRun(user: string | undefined): boolean {
  if (user === undefined || PROGRAMS.some(({ missing }) => missing !== undefined)) return false;
  const directory = mkdtempSync("/tmp/shm-pod-");
  chmodSync(directory, 0o755);
  try {
    execFileSync(PODMAN, [directory, user, "--rootfs", `${directory}/rootfs`, "true"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

const RULES = `[[allow]]
name = "shops"
engine = "podman"
app = "shop"
action = ["connect", "dial", "listen", "list"]

[[deny]]
name = "bank"
engine = "podman"
instance = "thief"
action = "dial"
`;

type Running = {
  readonly child: ChildProcess;
  readonly ended: Promise<{ code: number | null; stdout: string; stderr: string }>;
};

/** `shmlink WORDS…` in a container of its own, which sees of this machine its context's socket and the programs. */
function container(broker: TestBroker, user: string, instance: string, ...words: string[]): Running {
  const socket = join(broker.directory, `${instance}.sock`);
  const state = join(broker.directory, instance);
  const runtime = dirname(process.execPath);
  const context = [
    "context",
    "create",
    "--engine=podman",
    "--app=shop",
    `--instance=${instance}`,
    `--path=${socket}`,
    "--mode=666",
    "--",
  ];
  const mounts = [
    "-v",
    `${CHECKOUT}:${CHECKOUT}:ro`,
    "-v",
    `${runtime}:${runtime}:ro`,
    "-v",
    `${socket}:/shmlink.sock`,
    "-e",
    "SHMLINK_SOCKET=/shmlink.sock",
  ];
  const podman = [PODMAN, state, user, ...mounts, "--rootfs", `${state}/rootfs`, process.execPath, ENTRY, ...words];
  const child = spawn(process.execPath, [ENTRY, ...context, ...podman], { env: broker.env, stdio: "pipe" });
  const text = { stdout: "", stderr: "" };
  child.stdout.on("data", (chunk: Buffer) => (text.stdout += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (text.stderr += chunk.toString()));
  return { child, ended: new Promise((resolve) => child.on("close", (code) => resolve({ code, ...text }))) };
}

/** Whether both processes, and we, have namespaces of their own. */
function apart(kind: "net" | "pid", ...pids: readonly (number | undefined)[]): boolean {
  const all = ["self", ...pids].map((pid) => readlinkSync(`/proc/${pid}/ns/${kind}`));
  return new Set(all).size === all.length;
}

async function visit(user: string): Promise<void> {
  await using broker = new TestBroker(RULES);
  using link: BrokerLink = broker.connect();
  chmodSync(broker.directory, 0o755);
  const seller = container(broker, user, "seller", "listen", "counter");
  seller.child.stdin?.write("change");
  const failed = seller.ended.then(({ stderr }) => stderr);
  let early = "";
  void failed.then((stderr) => (early = stderr));
  await waitUntil(
    () => early !== "" || link.list().some(({ name }) => name === "counter"),
    "the first container's service",
  );
  expect(early).toBe("");
  const [service] = link.list("counter");
  expect(service?.uid).toBe(Number(execFileSync("id", ["-u", user], { encoding: "utf8" })));
  const thief = await container(broker, user, "thief", "dial", "counter").ended;
  expect(thief.stderr).toMatch(/context podman\/shop\/thief \(user \d+\) may not dial it \(rule "bank" at .*:7\)/);
  expect(thief.code).toBe(1);
  const buyer = container(broker, user, "buyer", "dial", "counter");
  buyer.child.stdin?.write("coins");
  await waitUntil(() => link.list("counter").some(({ kind }) => kind === "channel"), "the channel");
  const [channel] = link.list("counter").filter(({ kind }) => kind === "channel");
  const peer = channel?.details["peer"] as { readonly pid: number };
  expect(apart("net", channel?.pid, peer.pid)).toBe(true);
  expect(apart("pid", channel?.pid, peer.pid)).toBe(true);
  for (const { child } of [seller, buyer]) child.stdin?.end();
  expect(await buyer.ended).toMatchObject({ code: 0, stdout: "change" });
  expect(await seller.ended).toMatchObject({ code: 0, stdout: "coins" });
  await waitUntil(() => link.list().every(({ kind }) => kind !== "context"), "the contexts to be gone");
}

const LIMIT_MS = 60_000;
const user = rootlessUser();

requires.test(
  [...PROGRAMS, requires.feature(canRun("root"), "podman cannot run a container here")],
  "two containers of podman exchange a channel through the host's broker, and a third is refused by its identity",
  () => visit("root"),
  LIMIT_MS,
);

requires.test(
  [...PROGRAMS, requires.feature(canRun(user), "no user of /etc/subuid can run a rootless container here")],
  "two rootless containers exchange a channel through the host's broker, and a third is refused by its identity",
  () => visit(user ?? ""),
  LIMIT_MS,
);

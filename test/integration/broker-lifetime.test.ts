/** How a broker begins and ends: on demand, by LISTEN_FDS, when idle, by signal; and that it sleeps in between. */
import { describe, expect, test } from "bun:test";
import { spawn, spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readFileSync, symlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { constants, getFileLimit, kill, setFileLimit } from "../../ffi/mod.ts";
import type { BrokerLink } from "../../lib/client/broker-link.ts";
import { brokerPid, CHECKOUT, connectWhenListening, isRunning, TestBroker, waitUntil } from "../helpers/broker.ts";
import { requires } from "../helpers/requires.ts";

const ENTRY = join(CHECKOUT, "bin", "shmlink.ts");

/** Voluntary and involuntary context switches of every thread: what wake-ups leave behind. */
function contextSwitches(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const found = status.matchAll(/ctxt_switches:\s+(\d+)/g);
  return [...found].reduce((sum, [, count]) => sum + Number(count), 0);
}

test("connect() with start: false says how to start one", async () => {
  await using broker = new TestBroker();
  expect(() => broker.connect({ start: false })).toThrow(/shmlink broker/);
});

test("a broker that is there and does not answer is said to be so", async () => {
  await using broker = new TestBroker();
  broker.connect().close();
  kill(broker.pid, constants.SIGSTOP);
  try {
    expect(() => broker.connect()).toThrow(/it is there and does not answer; end it/);
  } finally {
    kill(broker.pid, constants.SIGCONT);
  }
}, 60_000);

test("many that connect at once get one broker", async () => {
  await using broker = new TestBroker();
  const runs = await Promise.all(Array.from({ length: 4 }, () => broker.run(["ls", "--json"])));
  const pids = runs.map(
    ({ stdout }) => (JSON.parse(stdout) as { broker: { owner: { pid: number } } }).broker.owner.pid,
  );
  broker.connect().close();
  expect(new Set(pids).size).toBe(1);
});

test("an idle broker ends, and the next command starts another", async () => {
  await using broker = new TestBroker("[broker]\nidleMs = 50\n");
  const link = broker.connect();
  const first = brokerPid(link);
  link.close();
  await waitUntil(() => !isRunning(first), "the idle exit");
  using again = broker.connect();
  expect(brokerPid(again)).not.toBe(first);
});

test("a broker with nothing to do is not woken", async () => {
  await using broker = new TestBroker();
  using link = broker.connect();
  const pid = brokerPid(link);
  await new Promise((resolve) => setTimeout(resolve, 300)); // whatever the runtime still had to do at its start
  const before = contextSwitches(pid);
  await new Promise((resolve) => setTimeout(resolve, 1000));
  expect(contextSwitches(pid) - before).toBeLessThanOrEqual(1);
});

for (const signal of ["SIGTERM", "SIGINT"] as const) {
  test(`${signal} ends the broker with 0 and leaves no socket behind`, async () => {
    await using broker = new TestBroker();
    const child = spawn(process.execPath, [ENTRY, "broker"], { env: broker.env, stdio: "ignore" });
    const ended = new Promise<number | null>((resolve) => child.on("exit", resolve));
    using link = await connectWhenListening(broker);
    link.listen("held");
    kill(child.pid ?? 0, constants[signal]);
    expect(await ended).toBe(0);
    expect(existsSync(broker.socketPath)).toBe(false);
  });
}

requires.test(
  [requires.program("systemd-socket-activate", "systemd")],
  "systemd-socket-activate starts it by LISTEN_FDS",
  async () => {
    await using broker = new TestBroker();
    const args = ["-l", broker.socketPath, "--fdname=shmlink"];
    for (const name of ["SHMLINK_CONFIG", "PATH", "HOME"]) args.push("-E", name);
    const child = spawn("systemd-socket-activate", [...args, join(CHECKOUT, "bin", "shmlink"), "broker"], {
      env: broker.env,
    });
    const ended = new Promise((resolve) => child.on("exit", resolve));
    using link = await connectWhenListening(broker);
    expect(brokerPid(link)).toBe(child.pid ?? 0);
    kill(child.pid ?? 0, constants.SIGTERM);
    await ended;
  },
);

describe("a directory that others could reach is refused:", () => {
  const cases: readonly (readonly [name: string, make: (directory: string) => void])[] = [
    [
      "world-writable",
      (directory) => {
        mkdirSync(directory);
        chmodSync(directory, 0o777);
      },
    ],
    [
      "a symbolic link",
      (directory) => {
        mkdirSync(`${directory}.real`, { mode: 0o700 });
        symlinkSync(`${directory}.real`, directory);
      },
    ],
  ];
  for (const [name, make] of cases) {
    test(name, async () => {
      await using broker = new TestBroker();
      const directory = join(broker.directory, "shmlink");
      make(directory);
      const env: Record<string, string> = { ...broker.env, XDG_RUNTIME_DIR: broker.directory };
      delete env["SHMLINK_SOCKET"];
      const { status, stderr } = spawnSync(process.execPath, [ENTRY, "ls"], { env, encoding: "utf8" });
      expect(status).toBe(1);
      expect(stderr.trim().split("\n")).toHaveLength(1);
      expect(stderr).toContain(directory);
      expect(existsSync(join(directory, "broker.sock"))).toBe(false);
    });
  }
});

test("a broker out of descriptors refuses what it cannot serve and lives on", async () => {
  await using broker = new TestBroker();
  using witness = broker.connect();
  const pid = brokerPid(witness);
  const { hard } = getFileLimit(pid);
  setFileLimit({ soft: 40n, hard }, pid);
  const links: BrokerLink[] = [];
  using service = witness.listen("scarce");
  for (let count = 0; count < 8; count++) links.push(broker.connect({ start: false }));
  let refused: unknown;
  for (let count = 0; count < 60 && refused === undefined; count++) {
    try {
      links[count % 8]?.dial("scarce", { timeoutMs: 200 });
    } catch (error) {
      refused = error;
    }
  }
  expect(refused).toBeDefined();
  expect(witness.list("scarce").length).toBeGreaterThan(0);
  for (const link of links) link.close();
  setFileLimit({ soft: hard, hard }, pid);
  service.close();
  expect(dirname(broker.socketPath)).toBe(broker.directory);
});

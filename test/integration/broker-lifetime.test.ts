/** How a broker begins and ends: on demand, by LISTEN_FDS, when idle, by signal; and that it sleeps in between. */
import { describe, expect, test } from "bun:test";
import { spawn, spawnSync } from "node:child_process";
import { appendFileSync, chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { addSeals, constants, ftruncate, getFileLimit, kill, memfdCreate, pipe, setFileLimit } from "../../ffi/mod.ts";
import type { BrokerLink } from "../../lib/client/broker-link.ts";
import { listenOn } from "../../lib/transport/socket-path.ts";
import { brokerPid, CHECKOUT, connectWhenListening, isRunning, TestBroker, waitUntil } from "../helpers/broker.ts";
import { sleepsThrough } from "../helpers/process-state.ts";
import { message, type RawEvent, RawPeer, text } from "../helpers/raw-peer.ts";
import { requires } from "../helpers/requires.ts";

const ENTRY = join(CHECKOUT, "bin", "shmlink.ts");

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

test("a broker puts its full log aside and goes on in a new one", async () => {
  await using broker = new TestBroker();
  broker.connect().close();
  const log = join(broker.directory, "broker.log");
  appendFileSync(log, "x".repeat((1 << 20) + 1));
  kill(broker.pid, constants.SIGHUP);
  await waitUntil(() => existsSync(`${log}.1`) && existsSync(log), "the full log to be put aside, and another begun");
  await waitUntil(() => broker.log.includes("Configuration read again"), "a line in the new log");
  expect(broker.log.length).toBeLessThan(10_000);
});

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

test("a broker that a crowd has connected to and left ends when idle all the same", async () => {
  await using broker = new TestBroker("[broker]\nidleMs = 50\n");
  const link = broker.connect();
  const pid = brokerPid(link);
  const crowd = Array.from({ length: 150 }, () => new RawPeer(broker.socketPath));
  link.close();
  for (const peer of crowd) peer[Symbol.dispose]();
  await waitUntil(() => !isRunning(pid), "the idle exit");
});

test("a broker stays as long as a context is open, and ends when idle after that", async () => {
  await using broker = new TestBroker("[broker]\nidleMs = 50\n");
  const { reader, writer } = pipe();
  using hold = writer;
  const link = broker.connect();
  const pid = brokerPid(link);
  {
    using closeFd = reader;
    using listener = listenOn(join(broker.directory, "context.sock"));
    link.createContext({ engine: "test", app: "shop", instance: "1", listener, closeFd });
  }
  link.close();
  {
    await using other = new TestBroker("[broker]\nidleMs = 50\n"); // left later, and gone before
    const gone = other.connect();
    const itsPid = brokerPid(gone);
    gone.close();
    await waitUntil(() => !isRunning(itsPid), "the idle exit of a broker without a context");
  }
  const again = broker.connect({ start: false });
  expect([brokerPid(again), again.list().filter(({ kind }) => kind === "context").length]).toEqual([pid, 1]);
  again.close();
  hold.close();
  await waitUntil(() => !isRunning(pid), "the idle exit");
});

test("a broker with nothing to do is not woken", async () => {
  await using broker = new TestBroker();
  using link = broker.connect();
  await sleepsThrough(brokerPid(link));
}, 60_000);

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

/** As many connections as there are, until one is refused. */
function connectUntilRefused(broker: TestBroker, links: BrokerLink[]): unknown {
  for (let count = 0; count < 100; count++) {
    try {
      links.push(broker.connect({ start: false }));
    } catch (error) {
      return error;
    }
  }
  return undefined;
}

test("a crowd is let in as far as a user may have connections, and the others hear which limit it is", async () => {
  await using broker = new TestBroker("[limits]\nmaxSessionsPerUser = 300\n");
  using witness = broker.connect();
  using stack = new DisposableStack();
  const crowd = Array.from({ length: 320 }, () => stack.use(new RawPeer(broker.socketPath)));
  for (const peer of crowd.slice(0, 299)) {
    peer.send(message(1, 0, 0x10));
    expect(peer.next()?.sender).toBe(0x10);
  }
  for (const peer of crowd.slice(299)) {
    const { body } = peer.next() ?? { body: new DataView(new ArrayBuffer(0)) };
    expect(new TextDecoder().decode(body)).toContain("limits.maxSessionsPerUser is 300");
  }
  expect(broker.log.split("Cannot let in").length).toBeLessThanOrEqual(2); // once in a while
  expect(witness.list().length).toBeGreaterThan(0);
}, 30_000);

const OUT_OF_DESCRIPTORS =
  /out of descriptors \(RLIMIT_NOFILE is 40\): raise LimitNOFILE= of shmlink.service, or ulimit -n/;

test("a broker out of descriptors tells who connects and its log, serves who is there, and lets in again later", async () => {
  await using broker = new TestBroker();
  using witness = broker.connect();
  const { hard } = getFileLimit(broker.pid);
  setFileLimit({ soft: 40n, hard }, broker.pid);
  const links: BrokerLink[] = [];
  expect(() => {
    const refusal = connectUntilRefused(broker, links);
    if (refusal !== undefined) throw refusal;
  }).toThrow(OUT_OF_DESCRIPTORS);
  // What the broker closes behind a refusal may let one in: the next one is refused again.
  for (let count = 0; count < 20; count++)
    expect(String(connectUntilRefused(broker, links))).toMatch(OUT_OF_DESCRIPTORS);
  expect(links.length).toBeLessThan(40);
  expect(witness.list().length).toBeGreaterThan(0);
  expect(links[0]?.list().length).toBeGreaterThan(0);
  const warnings = broker.log.split("\n").filter((line) => line.includes("Cannot let in"));
  expect(warnings[0]).toMatch(OUT_OF_DESCRIPTORS);
  expect(warnings.length).toBeLessThan(5);
  for (const link of links) link.close();
  await waitUntil(() => {
    const again: BrokerLink[] = [];
    const refusal = connectUntilRefused(broker, again);
    for (const link of again) link.close();
    return refusal !== undefined && again.length === links.length;
  }, "all of the descriptors to be of use again");
  setFileLimit({ soft: hard, hard }, broker.pid);
});

test("a broker that lacks descriptors for a channel refuses the channel", async () => {
  await using broker = new TestBroker();
  using witness = broker.connect();
  using _service = witness.listen("scarce");
  using raw = new RawPeer(broker.socketPath);
  raw.greet();
  const { hard } = getFileLimit(broker.pid);
  setFileLimit({ soft: 40n, hard }, broker.pid);
  // Nobody maps the rings, so the broker holds them.
  for (let id = 10; id < 40; id++) raw.send(message(3, 2, id, ...text("scarce"), 0));
  const failed = (): string | undefined => {
    const event = raw.next();
    if (event === undefined) throw new Error("The broker ended the session");
    return event.sender >= 10 && event.opcode === 2 ? new TextDecoder().decode(event.body) : undefined;
  };
  let refusal: string | undefined;
  while (refusal === undefined) refusal = failed();
  expect(refusal).toMatch(OUT_OF_DESCRIPTORS);
  expect(refusal).toContain('Cannot dial "scarce": the broker is out of descriptors');
  expect(witness.list("scarce").length).toBeGreaterThan(0);
});

/** Leaves a process so many descriptors beside those that it has. */
function leaveDescriptors(pid: number, count: number): void {
  const open = new Set(readdirSync(`/proc/${pid}/fd`).map(Number));
  let soft = 0;
  for (let left = count; open.has(soft) || left > 0; soft++) if (!open.has(soft)) left -= 1;
  setFileLimit({ soft: BigInt(soft), hard: getFileLimit(pid).hard }, pid);
}

test("a broker without a descriptor to look with answers who asks for a listener, and who registers one", async () => {
  await using broker = new TestBroker();
  using _witness = broker.connect();
  const limit = getFileLimit(broker.pid);
  using raw = new RawPeer(broker.socketPath);
  raw.greet();
  raw.send(message(1, 0, 9));
  expect(nextOf(raw, 9).opcode).toBe(0); // done
  const atRest = await broker.fdCountAtRest();
  using counters = memfdCreate("counters");
  ftruncate(counters, 4096);
  addSeals(counters, constants.F_SEAL_SHRINK | constants.F_SEAL_GROW);
  const register = (id: number, port: number, pid: number): void =>
    raw.send(message(3, 3, id, ...text("0.0.0.0"), port, ...text("/tmp/x.sock"), 0, pid), [counters]);
  register(4, 777, 0);
  expect(nextOf(raw, 4).opcode).toBe(0); // registered
  await waitUntil(() => broker.fdCount() === atRest, "the broker to have closed the counters");
  leaveDescriptors(broker.pid, 0);
  raw.send(message(3, 4, 5, ...text("10.9.8.7"), 777));
  expect(nextOf(raw, 5).opcode).toBe(1); // none: the client goes over TCP
  raw.send(message(3, 5, ...text("10.9.8.7"), 777, ...text("why")));
  raw.send(message(1, 0, 6));
  expect(nextOf(raw, 6).opcode).toBe(0);
  leaveDescriptors(broker.pid, 1); // for what comes with the request
  register(7, 778, 1);
  const { opcode, body } = nextOf(raw, 7);
  expect(opcode).toBe(1); // failed
  expect(new TextDecoder().decode(body)).toContain("Cannot register tcp:0.0.0.0:778: the broker is out of descriptors");
  raw.send(message(1, 0, 8));
  expect(nextOf(raw, 8).opcode).toBe(0);
  setFileLimit(limit, broker.pid);
});

function nextOf(raw: RawPeer, sender: number): RawEvent {
  for (let event = raw.next(); event !== undefined; event = raw.next()) if (event.sender === sender) return event;
  throw new Error("The connection ended");
}

/** Clock ticks of CPU that a process has had. */
function cpuTicks(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
  return Number(fields[11]) + Number(fields[12]);
}

test("a broker that cannot even turn away does not turn in circles, and lets in who has waited", async () => {
  await using broker = new TestBroker();
  broker.connect().close();
  const limit = getFileLimit(broker.pid);
  setFileLimit({ soft: 3n, hard: limit.hard }, broker.pid);
  using raw = new RawPeer(broker.socketPath);
  raw.greet();
  await waitUntil(() => broker.log.includes("Cannot let in a connection"), "the warning");
  const before = cpuTicks(broker.pid);
  await new Promise((resolve) => setTimeout(resolve, 1000));
  expect(cpuTicks(broker.pid) - before).toBeLessThan(30); // of 100
  setFileLimit(limit, broker.pid);
  expect(raw.next()?.sender).toBe(2); // the registry's global
});

/** The broker against C that does the same: round trips, dials, relayed descriptors, ten thousand channels, a flood. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { constants, kill, pinToCpu, pipe } from "../ffi/mod.ts";
import { BrokerLink } from "../lib/client/broker-link.ts";
import { listenOn } from "../lib/transport/socket-path.ts";
import { buildForDbus, buildWithWayland, runBaseline } from "./baseline.ts";

export type BrokerResult = {
  readonly id: string;
  readonly unit: "ns" | "us" | "ms" | "fds/s" | "bytes";
  readonly value: number;
  readonly baseline: number;
  readonly baselineName: string;
  /** value / baseline */
  readonly ratio: number;
};

/** What could not be measured here, and why. */
export const leftOut: string[] = [];

const ROUNDS = 5;
const MANY = 10_000;
/** Processes that hold them, at each side. */
const HOLDERS = 4;
const PEER: string = fileURLToPath(new URL("broker-peer.ts", import.meta.url));
const CPUS: readonly [number, number] = availableParallelism() > 1 ? [0, 1] : [0, 0];

/** Limits out of the way of what is measured, and a context of another identity that may connect. */
const CONFIG = `[limits]
maxMessagesPerSecond = 10_000_000
maxChannelsPerUser = 100_000
[[allow]]
engine = "bench"
action = ["connect", "offer"]
`;

function quantile(values: readonly number[], part: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length * part)] ?? Number.NaN;
}

const median = (values: readonly number[]): number => quantile(values, 0.5);

/** A peer that has said a line. */
class Peer {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<Buffer>;

  constructor(args: readonly string[]) {
    this.#child = spawn(process.execPath, [PEER, ...args], { stdio: ["pipe", "pipe", "inherit"] });
    const { stdout } = this.#child;
    if (stdout === null) throw new TypeError("Cannot read from a peer");
    this.#lines = stdout[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  }

  async line(): Promise<string> {
    const { value, done } = await this.#lines.next();
    if (done === true) throw new Error("Cannot measure: a peer has ended early");
    return String(value).trim();
  }

  go(): void {
    this.#child.stdin?.write("g");
  }

  pin(cpu: number): void {
    pinMain(this.#child.pid ?? 0, cpu);
  }

  /** With the runtime's own threads. */
  pinAll(cpu: number): void {
    execFileSync("taskset", ["-a", "-p", "-c", String(cpu), String(this.#child.pid ?? 0)], { stdio: "ignore" });
  }

  async stop(): Promise<void> {
    const ended = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await ended;
  }
}

async function startPeer(...args: readonly (string | number)[]): Promise<Peer> {
  const peer = new Peer(args.map(String));
  await peer.line();
  return peer;
}

/** The main thread alone: a runtime's own threads have to stay off the processor that is measured. */
function pinMain(pid: number, cpu: number): void {
  execFileSync("taskset", ["-p", "-c", String(cpu), String(pid)], { stdio: "ignore" });
}

/** A broker of our own, and a connection to it. */
class Bench {
  readonly folder: string = mkdtempSync("/tmp/shm-bench-");
  readonly link: BrokerLink;
  readonly brokerPid: number;

  constructor() {
    const config = join(this.folder, "shmlink.toml");
    writeFileSync(config, CONFIG);
    process.env["SHMLINK_SOCKET"] = join(this.folder, "broker.sock");
    process.env["SHMLINK_CONFIG"] = config;
    this.link = BrokerLink.connect({ name: "bench" });
    this.brokerPid = this.link.list().find(({ kind }) => kind === "broker")?.pid ?? 0;
    if (this.brokerPid === 0) throw new Error("Cannot measure: the broker does not name itself");
  }

  /** @param cpu  of the broker, while this process stays on the first */
  place(cpu: number): void {
    pinMain(this.brokerPid, cpu);
  }

  /** Bytes that the broker alone has in memory. */
  get brokerBytes(): number {
    const rollup = readFileSync(`/proc/${this.brokerPid}/smaps_rollup`, "utf8");
    const of = (key: string): number => Number(new RegExp(`^${key}: +(\\d+) kB`, "m").exec(rollup)?.[1]) * 1024;
    return of("Private_Clean") + of("Private_Dirty");
  }

  end(): void {
    this.link.close();
    kill(this.brokerPid, constants.SIGTERM);
    rmSync(this.folder, { recursive: true, force: true });
  }
}

function syncTimes({ link }: Bench, count: number): number[] {
  const times: number[] = [];
  for (let index = 0; index < count; index++) {
    const start = performance.now();
    link.sync();
    times.push((performance.now() - start) * 1e6);
  }
  return times;
}

function syncNs(bench: Bench, count: number): number {
  const start = performance.now();
  for (let index = 0; index < count; index++) bench.link.sync();
  return ((performance.now() - start) * 1e6) / count;
}

function result(id: string, unit: BrokerResult["unit"], pair: readonly [number, number], name: string): BrokerResult {
  const [value, baseline] = pair.map((number) => Math.round(number * 10) / 10) as [number, number];
  return { id, unit, value, baseline, baselineName: name, ratio: Math.round((value / baseline) * 1000) / 1000 };
}

/** Both sides in turn; medians of all rounds. */
function alternate(measure: () => number, measureBaseline: () => number): [number, number] {
  const values: number[] = [];
  const baselines: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    baselines.push(measureBaseline());
    values.push(measure());
  }
  return [median(values), median(baselines)];
}

type Cpus = readonly [number, number];
type Report = (result: BrokerResult) => void;
type Section = (bench: Bench, report: Report) => Promise<void>;

/** On two processors and on one. */
async function onEach(bench: Bench, act: (suffix: string, cpus: Cpus) => Promise<void>): Promise<void> {
  for (const cpus of CPUS[1] === 0 ? [CPUS] : [CPUS, [0, 0] as const]) {
    bench.place(cpus[1]);
    await act(cpus[1] === 0 ? ".one-cpu" : "", cpus);
  }
}

const sync: Section = (bench, report) => {
  syncNs(bench, 20_000);
  const missing = buildForDbus();
  if (missing !== undefined) leftOut.push(`broker.sync.dbus: ${missing}`);
  return onEach(bench, async (suffix, cpus) => {
    const beside: number[] = [];
    const pair = alternate(
      () => syncNs(bench, 5_000),
      () => {
        if (missing === undefined) beside.push(runBaseline("dbus", 5_000, ...cpus));
        return runBaseline("sync", 5_000, ...cpus);
      },
    );
    report(result(`broker.sync.rtt${suffix}`, "ns", pair, "C libwayland"));
    const [ours] = pair;
    if (missing === undefined)
      report(result(`broker.sync.dbus${suffix}`, "ns", [ours, median(beside)], "dbus-broker's GetId"));
  });
};

function dialUs({ link }: Bench, count: number): number {
  const times: number[] = [];
  for (let index = 0; index < count; index++) {
    const start = performance.now();
    const channel = link.dial("bench.dial", { capacity: 4096 });
    channel.receive();
    times.push((performance.now() - start) * 1000);
    channel.close();
  }
  return median(times);
}

const dial: Section = async (bench, report) => {
  const peer = await startPeer("serve", "bench.dial");
  try {
    dialUs(bench, 4000);
    await onEach(bench, async (suffix, cpus) => {
      peer.pin(cpus[1]);
      const least: number[] = [];
      const pair = alternate(
        () => dialUs(bench, 500),
        () => {
          least.push(runBaseline("broker-dial", 5_000, ...cpus) / 1000);
          return runBaseline("dial", 5_000, ...cpus) / 1000;
        },
      );
      report(result(`broker.dial.us${suffix}`, "us", pair, "C connect and accept"));
      report(result(`broker.dial.c${suffix}`, "us", [pair[0], median(least)], "C, three processes"));
    });
  } finally {
    await peer.stop();
  }
};

/** Descriptors a second, from one connection to another of this process, through the broker. */
function relayRate(bench: Bench, taker: BrokerLink, bundle: number, count: number): number {
  using offer = bench.link.offer("bench.fd");
  const { reader, writer } = pipe();
  using passed = reader;
  writer.close();
  const fds = Array.from({ length: bundle }, () => passed);
  const start = performance.now();
  for (let index = 0; index < count; index += bundle) {
    offer.publish(fds);
    for (const fd of taker.take("bench.fd").fds) fd.close();
  }
  return count / ((performance.now() - start) / 1000);
}

const relay: Section = async (bench, report) => {
  using taker = BrokerLink.connect({ name: "bench taker" });
  for (const bundle of [1, 28]) {
    const rate = (count: number): number => relayRate(bench, taker, bundle, count);
    rate(8_400);
    await onEach(bench, async (suffix, cpus) => {
      const pair = alternate(
        () => rate(2_800),
        () => 1e9 / runBaseline("relay", 28_000, bundle, ...cpus),
      );
      const id = `broker.fd.rate${bundle === 1 ? "" : `.bundle-${bundle}`}${suffix}`;
      report(result(id, "fds/s", pair, "C through a third"));
    });
  }
};

function listMs({ link }: Bench): number {
  const start = performance.now();
  link.list();
  return performance.now() - start;
}

/** Opens channels between so many pairs of processes. @returns nanoseconds for each, all pairs together */
async function openMany(count: number, peers: Peer[]): Promise<number> {
  const diallers: Peer[] = [];
  const each = count / HOLDERS;
  for (let index = 0; index < HOLDERS; index++) {
    const name = `bench.${count}.${index}`;
    peers.push(await startPeer("keep", name));
    diallers.push(await startPeer("hold", name, each));
  }
  peers.push(...diallers);
  const start = performance.now();
  for (const dialler of diallers) dialler.go();
  for (const dialler of diallers) await dialler.line();
  return ((performance.now() - start) * 1e6) / count;
}

const channels: Section = async (bench, report) => {
  const peers: Peer[] = [];
  try {
    await openMany(HOLDERS * 2, peers);
    const few = { bytes: bench.brokerBytes, rtt: syncNs(bench, 10_000), list: 0 };
    few.list = median(Array.from({ length: 20 }, () => listMs(bench)));
    const openNs = await openMany(MANY, peers);
    const memory = (bench.brokerBytes - few.bytes) / MANY;
    const perUs = 1000;
    report(result(`broker.channels.${MANY}.open`, "ms", [(openNs * MANY) / 1e6, (300 * MANY) / perUs], "300 us each"));
    report(result(`broker.channels.${MANY}.memory`, "bytes", [memory, 4096], "4 KiB a channel"));
    const rtt = median(Array.from({ length: ROUNDS }, () => syncNs(bench, 4_000)));
    report(result(`broker.channels.${MANY}.rtt`, "ns", [rtt, few.rtt], "with 8 channels"));
    const list = median(Array.from({ length: 5 }, () => listMs(bench)));
    report(result(`broker.channels.${MANY}.ls`, "ms", [list, few.list], "with 8 channels"));
  } finally {
    await Promise.all(peers.map((peer) => peer.stop()));
  }
};

/** What somebody can do without end. Each has the broker to themselves, with us. */
const FLOODS = ["messages", "refused", "unread", "connections", "fds"] as const;

/** Somebody of another identity floods; what do we notice? The rates' limits are the default ones here. We and the broker
 *  share a processor, and who floods has the other: what is asked is what the broker does, not who has the processor. */
const flood: Section = async (bench, report) => {
  const path = join(bench.folder, "context.sock");
  const { reader, writer } = pipe();
  using listener = listenOn(path);
  bench.link.createContext({ listener, closeFd: reader, engine: "bench", app: "flood", instance: "1" });
  reader.close();
  writeFileSync(join(bench.folder, "shmlink.toml"), CONFIG.replace("10_000_000", "50_000"));
  kill(bench.brokerPid, constants.SIGHUP);
  await new Promise((resolve) => setTimeout(resolve, 200));
  const pause = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 150)); // our own rate's bucket fills
  bench.place(CPUS[0]);
  syncNs(bench, 20_000);
  for (const kind of FLOODS) {
    const quiet: number[] = [];
    const flooded: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      await pause();
      quiet.push(...syncTimes(bench, 3_000));
      const peer = await startPeer("flood", path, kind);
      peer.pinAll(CPUS[1]);
      await pause();
      flooded.push(...syncTimes(bench, 3_000));
      await peer.stop();
    }
    for (const [name, part] of [
      ["p50", 0.5],
      ["p99", 0.99],
    ] as const) {
      const pair = [quantile(flooded, part), quantile(quiet, part)] as const;
      report(result(`broker.flood.${kind}.${name}`, "ns", pair, "without a flood"));
    }
  }
  writer.close();
};

const SECTIONS: Readonly<Record<string, Section>> = {
  "broker.sync": sync,
  "broker.dial": dial,
  "broker.fd": relay,
  "broker.channels": channels,
  "broker.flood": flood,
};

/** Answers every question in turn. @param ids  only these, or those that begin so, unless empty */
export async function benchBroker(
  ids: readonly string[],
  report: (result: BrokerResult) => void,
): Promise<readonly BrokerResult[]> {
  buildWithWayland();
  const results: BrokerResult[] = [];
  const asked = (id: string): boolean => ids.length === 0 || ids.some((wanted) => id.startsWith(wanted));
  const note = (one: BrokerResult): void => {
    if (!asked(one.id)) return;
    report(one);
    results.push(one);
  };
  const bench = new Bench();
  pinToCpu(CPUS[0]);
  try {
    for (const [prefix, section] of Object.entries(SECTIONS))
      if (ids.length === 0 || ids.some((wanted) => wanted.startsWith(prefix) || prefix.startsWith(wanted)))
        await section(bench, note);
  } finally {
    bench.end();
  }
  return results;
}

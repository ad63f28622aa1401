/** What the questions to the broker share: a broker of their own, other processes, and how a result is told. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { constants, kill } from "../ffi/mod.ts";
import { BrokerLink } from "../lib/client/broker-link.ts";
import { median } from "./median.ts";
import { CPUS, type Cpus, TWO_CPUS } from "./processors.ts";

export type BrokerResult = {
  readonly id: string;
  readonly unit: "ns" | "us" | "ms" | "fds/s" | "bytes";
  readonly value: number;
  readonly baseline: number;
  readonly baselineName: string;
  /** value / baseline */
  readonly ratio: number;
};

export type Report = (result: BrokerResult) => void;
/** @param asked  whether somebody wants to know, for what takes long */
export type Section = (bench: Bench, report: Report, asked: (id: string) => boolean) => Promise<void>;

const PEER: string = fileURLToPath(new URL("broker-peer.ts", import.meta.url));

/** Limits out of the way of what is measured, and a context of another identity that may connect. */
export const CONFIG: string = `[limits]
maxMessagesPerSecond = 10_000_000
maxChannelsPerUser = 100_000
[[allow]]
engine = "bench"
action = ["connect", "offer"]
`;

/** Both sides in turn; medians of all rounds. */
export function alternate(measure: () => number, measureBaseline: () => number, rounds: number = 5): [number, number] {
  const values: number[] = [];
  const baselines: number[] = [];
  for (let round = 0; round < rounds; round++) {
    baselines.push(measureBaseline());
    values.push(measure());
  }
  return [median(values), median(baselines)];
}

/** A peer that has said a line. */
export class Peer {
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

  /** With the runtime's own threads. @param cpu  several, as in 0,1, for any of them */
  pinAll(cpu: number | string): void {
    execFileSync("taskset", ["-a", "-p", "-c", String(cpu), String(this.#child.pid ?? 0)], { stdio: "ignore" });
  }

  async stop(): Promise<void> {
    const ended = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await ended;
  }
}

export async function startPeer(...args: readonly (string | number)[]): Promise<Peer> {
  const peer = new Peer(args.map(String));
  await peer.line();
  return peer;
}

/** The main thread alone: a runtime's own threads have to stay off the processor that is measured. */
function pinMain(pid: number, cpu: number): void {
  execFileSync("taskset", ["-p", "-c", String(cpu), String(pid)], { stdio: "ignore" });
}

/** A broker of our own, and a connection to it. */
export class Bench {
  readonly folder: string = mkdtempSync("/tmp/shm-bench-");
  readonly socketPath: string = join(this.folder, "broker.sock");
  readonly link: BrokerLink;
  readonly brokerPid: number;

  constructor() {
    const config = join(this.folder, "shmlink.toml");
    writeFileSync(config, CONFIG);
    this.enter();
    process.env["SHMLINK_CONFIG"] = config;
    this.link = BrokerLink.connect({ name: "bench" });
    this.brokerPid = this.link.list().find(({ kind }) => kind === "broker")?.pid ?? 0;
    if (this.brokerPid === 0) throw new Error("Cannot measure: the broker does not name itself");
  }

  /** Peers that are started from now on are this broker's. */
  enter(): void {
    process.env["SHMLINK_SOCKET"] = this.socketPath;
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

const ONE_CPU: Cpus = [CPUS[0], CPUS[0]];

/** On two processors and on one. */
export async function onEach(
  benches: readonly Bench[],
  act: (suffix: string, cpus: Cpus) => Promise<void> | void,
): Promise<void> {
  for (const cpus of TWO_CPUS ? [CPUS, ONE_CPU] : [ONE_CPU]) {
    for (const bench of benches) bench.place(cpus[1]);
    await act(cpus === ONE_CPU ? ".one-cpu" : "", cpus);
  }
}

export function syncNs(bench: Bench, count: number): number {
  const start = performance.now();
  for (let index = 0; index < count; index++) bench.link.sync();
  return ((performance.now() - start) * 1e6) / count;
}

export function result(
  id: string,
  unit: BrokerResult["unit"],
  pair: readonly [number, number],
  name: string,
): BrokerResult {
  const [value, baseline] = pair.map((number) => Math.round(number * 10) / 10) as [number, number];
  return { id, unit, value, baseline, baselineName: name, ratio: Math.round((value / baseline) * 1000) / 1000 };
}

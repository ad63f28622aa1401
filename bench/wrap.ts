/**
 * Programs under wrap against the same programs over a native Unix socket and over TCP, one load after the other in
 * each round, medians of all rounds; what a trapped call costs, against a supervisor in C; and how long a start takes.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { BUILD, buildBaselines } from "./baseline.ts";

export type WrapResult = {
  readonly id: string;
  readonly unit: "ns" | "requests/s" | "ms";
  readonly value: number;
  readonly baseline: number;
  readonly baselineName: string;
  /** value / baseline */
  readonly ratio: number;
};

const LAUNCHER: string = fileURLToPath(new URL("../bin/shmlink", import.meta.url));
const ROUNDS = 5;
const LOAD_MS = 700;
const CONNECTIONS = 16;
const TRAPS = 20_000;
const STARTS = 9;

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? Number.NaN;
}

/** A folder with servers, each native and wrapped, and a broker of their own. */
class Bench {
  readonly folder: string = mkdtempSync("/tmp/shm-bench-");
  readonly #children: ChildProcess[] = [];
  readonly #env: NodeJS.ProcessEnv = { ...process.env, SHMLINK_SOCKET: join(this.folder, "broker.sock") };
  #port: number = 21_000 + (process.pid % 1000) * 8;

  port(): number {
    this.#port += 1;
    return this.#port;
  }

  start(argv: readonly string[], wrapped: boolean): void {
    const [program = "", ...args] = wrapped ? [LAUNCHER, "wrap", "--", ...argv] : argv;
    const path = `${process.env["PATH"]}:/usr/sbin`;
    this.#children.push(spawn(program, args, { env: { ...this.#env, PATH: path }, stdio: "ignore", cwd: this.folder }));
  }

  run(argv: readonly string[], wrapped: boolean): string {
    const [program = "", ...args] = wrapped ? [LAUNCHER, "wrap", "--", ...argv] : argv;
    return execFileSync(program, args, { env: this.#env, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
  }

  async end(): Promise<void> {
    for (const child of this.#children) child.kill("SIGTERM");
    await Promise.all(this.#children.map((child) => child.exitCode ?? new Promise((done) => child.on("exit", done))));
    rmSync(this.folder, { recursive: true, force: true });
  }
}

function answers(address: number | string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = typeof address === "number" ? connect(address, "127.0.0.1") : connect(address);
    socket.on("connect", () => resolve(true)).on("error", () => resolve(false));
    socket.on("connect", () => socket.destroy());
  });
}

async function untilServed(address: number | string): Promise<void> {
  for (let tries = 0; tries < 500; tries++) {
    if (await answers(address)) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`Cannot measure: nobody serves ${address}`);
}

type Served = { readonly tcp: number; readonly unix: string; readonly wrapped: number };

async function startRedis(bench: Bench): Promise<Served> {
  const served = { tcp: bench.port(), unix: join(bench.folder, "redis.sock"), wrapped: bench.port() };
  const common = ["redis-server", "--save", "", "--appendonly", "no", "--bind", "127.0.0.1"];
  bench.start([...common, "--port", String(served.tcp), "--unixsocket", served.unix], false);
  bench.start([...common, "--port", String(served.wrapped)], true);
  await Promise.all(Object.values(served).map(untilServed));
  return served;
}

function nginxFolder(bench: Bench, name: string, listen: string): string[] {
  const folder = join(bench.folder, name);
  mkdirSync(folder);
  const temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(
    (each) => `${each}_temp_path ${folder}/${each};`,
  );
  writeFileSync(
    join(folder, "conf"),
    `daemon off; worker_processes 1; pid ${folder}/pid; error_log ${folder}/error.log crit;
events { worker_connections 256; }
http { access_log off; keepalive_requests 1000000000; ${temp.join(" ")}
  server { ${listen} location / { return 200 "hello\\n"; } } }
`,
  );
  return ["nginx", "-p", folder, "-c", join(folder, "conf")];
}

async function startNginx(bench: Bench): Promise<Served> {
  const served = { tcp: bench.port(), unix: join(bench.folder, "nginx.sock"), wrapped: bench.port() };
  const both = `listen 127.0.0.1:${served.tcp} backlog=511; listen unix:${served.unix} backlog=511;`;
  bench.start(nginxFolder(bench, "native", both), false);
  bench.start(nginxFolder(bench, "wrapped", `listen 127.0.0.1:${served.wrapped};`), true);
  await Promise.all(Object.values(served).map(untilServed));
  return served;
}

type Load = { readonly protocol: "http" | "redis"; readonly way: "keep" | "anew" };

/** @returns requests a second */
function load(bench: Bench, address: number | string, { protocol, way }: Load, wrapped: boolean): number {
  const words = [String(address), protocol, way, String(CONNECTIONS), String(LOAD_MS)];
  return 1e9 / Number(bench.run([`${BUILD}load`, ...words], wrapped));
}

type Rates = { readonly wrapped: number; readonly unix: number; readonly tcp: number };

function compare(bench: Bench, served: Served, what: Load): Rates {
  const rounds: Rates[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    rounds.push({
      wrapped: load(bench, served.wrapped, what, true),
      unix: load(bench, served.unix, what, false),
      tcp: load(bench, served.tcp, what, false),
    });
  }
  const of = (key: keyof Rates): number => median(rounds.map((rates) => rates[key]));
  return { wrapped: of("wrapped"), unix: of("unix"), tcp: of("tcp") };
}

function rate(id: string, value: number, baseline: number, baselineName: string): WrapResult {
  return { id, unit: "requests/s", value, baseline, baselineName, ratio: value / baseline };
}

async function benchRedis(bench: Bench): Promise<WrapResult[]> {
  const { wrapped, unix, tcp } = compare(bench, await startRedis(bench), { protocol: "redis", way: "keep" });
  return [
    rate("wrap.redis.vs-unix", wrapped, unix, "native Unix socket"),
    rate("wrap.redis.vs-tcp", wrapped, tcp, "TCP loopback"),
  ];
}

async function benchNginx(bench: Bench): Promise<WrapResult[]> {
  const served = await startNginx(bench);
  const kept = compare(bench, served, { protocol: "http", way: "keep" });
  const anew = compare(bench, served, { protocol: "http", way: "anew" });
  return [
    rate("wrap.nginx.keepalive.vs-unix", kept.wrapped, kept.unix, "native Unix socket"),
    rate("wrap.nginx.keepalive.vs-tcp", kept.wrapped, kept.tcp, "TCP loopback"),
    rate("wrap.nginx.connections.vs-tcp", anew.wrapped, anew.tcp, "TCP loopback"),
  ];
}

const SILENT_SERVER = `
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True: kept = listener.accept()
`;

async function benchTrap(bench: Bench): Promise<WrapResult[]> {
  const port = bench.port();
  bench.start(["python3", "-c", SILENT_SERVER, String(port)], true);
  await untilServed(port);
  const [ours, theirs]: [number[], number[]] = [[], []];
  for (let round = 0; round < ROUNDS; round++) {
    ours.push(Number(bench.run([`${BUILD}trap`, "call", String(port), String(TRAPS)], true)));
    theirs.push(Number(bench.run([`${BUILD}trap`, "supervise", String(TRAPS)], false)));
  }
  const [value, baseline] = [median(ours), median(theirs)];
  return [{ id: "wrap.trap.ns", unit: "ns", value, baseline, baselineName: "C supervisor", ratio: value / baseline }];
}

async function benchStart(bench: Bench): Promise<WrapResult[]> {
  const time = (wrapped: boolean): number => {
    const start = performance.now();
    bench.run(["/bin/true"], wrapped);
    return performance.now() - start;
  };
  time(true); // starts the broker
  const [ours, bare]: [number[], number[]] = [[], []];
  for (let round = 0; round < STARTS; round++) {
    bare.push(time(false));
    ours.push(time(true));
  }
  const baseline = median(bare);
  // What wrap adds.
  const value = median(ours) - baseline;
  return [{ id: "wrap.start.ms", unit: "ms", value, baseline, baselineName: "bare", ratio: value / baseline }];
}

const QUESTIONS: Readonly<Record<string, (bench: Bench) => Promise<WrapResult[]>>> = {
  redis: benchRedis,
  nginx: benchNginx,
  trap: benchTrap,
  start: benchStart,
};

/** @param ids  empty for all; "wrap.redis" and so on choose some */
export async function benchWrap(ids: readonly string[], onResult: (result: WrapResult) => void): Promise<WrapResult[]> {
  buildBaselines();
  const results: WrapResult[] = [];
  for (const [name, measure] of Object.entries(QUESTIONS)) {
    if (ids.length > 0 && !ids.some((id) => id.startsWith(`wrap.${name}`))) continue;
    const bench = new Bench();
    try {
      for (const result of await measure(bench)) {
        results.push(result);
        onResult(result);
      }
    } finally {
      await bench.end();
    }
  }
  return results;
}

/**
 * Programs under wrap against the same programs over a native Unix socket and over TCP: the loads take turns of a
 * fraction of a second, each turn is compared with its neighbours, and the median counts. Then
 * what a trapped call costs, against a supervisor in C; and how long a start takes.
 */
import { type ChildProcess, type ChildProcessByStdio, execFileSync, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { createInterface, type Interface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { fileURLToPath } from "node:url";
import { BUILD, buildBaselines } from "./baseline.ts";

export type WrapResult = {
  readonly id: string;
  readonly unit: "ns" | "requests/s" | "ms";
  readonly value: number;
  readonly baseline: number;
  readonly baselineName: string;
  /** value / baseline; of loads the median of the turns' ratios, since a machine is seldom as fast as a moment ago */
  readonly ratio: number;
  /** Of the ratio, or of the value where that is said. */
  readonly asked?: string;
};

const LAUNCHER: string = fileURLToPath(new URL("../bin/shmlink", import.meta.url));
const ROUNDS = 5;
const TURNS = 96;
const TURN_MS = 25;
/** A supervisor that has just begun, and its runtime, are busy with themselves for a while. */
const WARM_UP_TURNS = 8;
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

  /** One that is told what to do by lines. */
  converse(argv: readonly string[], wrapped: boolean): ChildProcessByStdio<Writable, Readable, null> {
    const [program = "", ...args] = wrapped ? [LAUNCHER, "wrap", "--", ...argv] : argv;
    const child = spawn(program, args, { env: this.#env, stdio: ["pipe", "pipe", "inherit"] });
    this.#children.push(child);
    return child;
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

type Kind = { readonly protocol: "http" | "redis"; readonly way: "keep" | "anew" };

/** A program that asks a server while it is its turn. */
class Load implements Disposable {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #lines: Interface;
  /** Requests a second of each turn. */
  readonly rates: number[] = [];

  constructor(bench: Bench, address: number | string, { protocol, way }: Kind, wrapped: boolean) {
    this.#child = bench.converse([`${BUILD}load`, String(address), protocol, way, String(CONNECTIONS)], wrapped);
    this.#lines = createInterface({ input: this.#child.stdout });
  }

  async turn(): Promise<void> {
    const answer = new Promise<string>((resolve, reject) => {
      this.#lines.once("line", resolve).once("close", () => reject(new Error("Cannot measure: the load has ended")));
    });
    this.#child.stdin.write(`${TURN_MS}\n`);
    const line = await answer;
    this.#lines.removeAllListeners();
    this.rates.push(1e9 / Number(line));
  }

  [Symbol.dispose](): void {
    this.#lines.removeAllListeners();
    this.#lines.close();
    this.#child.stdin.end();
  }
}

type Rates = readonly number[];
/** `plain`: a TCP client that is not wrapped, at the wrapped server. */
type Compared = { readonly wrapped: Rates; readonly unix: Rates; readonly tcp: Rates; readonly plain: Rates };

async function compare(bench: Bench, served: Served, what: Kind): Promise<Compared> {
  using stack = new DisposableStack();
  const load = (address: number | string, wrapped: boolean): Load => stack.use(new Load(bench, address, what, wrapped));
  const loads = {
    wrapped: load(served.wrapped, true),
    unix: load(served.unix, false),
    tcp: load(served.tcp, false),
    plain: load(served.wrapped, false),
  };
  const order = Object.values(loads);
  for (let turn = 0; turn < WARM_UP_TURNS + TURNS; turn++) {
    for (const each of order) await each.turn();
    order.push(...order.splice(0, 1)); // who comes first, and after whom, changes
  }
  const of = ({ rates }: Load): Rates => rates.slice(WARM_UP_TURNS);
  return { wrapped: of(loads.wrapped), unix: of(loads.unix), tcp: of(loads.tcp), plain: of(loads.plain) };
}

function rate(id: string, rates: Rates, [others, baselineName]: [Rates, string], asked?: string): WrapResult {
  const ratio = median(rates.map((each, turn) => each / (others[turn] ?? Number.NaN)));
  const [value, baseline] = [median(rates), median(others)];
  const result = { id, unit: "requests/s", value, baseline, baselineName, ratio } as const;
  return asked === undefined ? result : { ...result, asked };
}

const AS_UNIX = ">= 0.97";

/** Where TCP is as fast as a Unix socket, nothing is asked against it. */
function keptAlive(name: string, { wrapped, unix, tcp }: Compared): WrapResult[] {
  const againstTcp = median(unix) >= 1.1 * median(tcp) ? ">= 1.1" : "none: the Unix socket is not 1.1 x TCP here";
  return [
    rate(`${name}.vs-unix`, wrapped, [unix, "native Unix socket"], AS_UNIX),
    rate(`${name}.vs-tcp`, wrapped, [tcp, "TCP loopback"], againstTcp),
  ];
}

async function benchRedis(bench: Bench): Promise<WrapResult[]> {
  return keptAlive("wrap.redis", await compare(bench, await startRedis(bench), { protocol: "redis", way: "keep" }));
}

async function benchNginx(bench: Bench): Promise<WrapResult[]> {
  const served = await startNginx(bench);
  const kept = await compare(bench, served, { protocol: "http", way: "keep" });
  const anew = await compare(bench, served, { protocol: "http", way: "anew" });
  return [
    ...keptAlive("wrap.nginx.keepalive", kept),
    rate("wrap.nginx.connections.vs-tcp", anew.wrapped, [anew.tcp, "TCP loopback"], ">= 0.9"),
    rate("wrap.nginx.plain.keepalive.vs-tcp", kept.plain, [kept.tcp, "TCP loopback"]),
    rate("wrap.nginx.plain.connections.vs-tcp", anew.plain, [anew.tcp, "TCP loopback"]),
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
  const ratio = value / baseline;
  return [{ id: "wrap.trap.ns", unit: "ns", value, baseline, baselineName: "C supervisor", ratio, asked: "<= 1.5" }];
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
  const ratio = value / baseline;
  return [{ id: "wrap.start.ms", unit: "ms", value, baseline, baselineName: "bare", ratio, asked: "value <= 40" }];
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

/**
 * Programs under wrap against the same programs over a native Unix socket and over TCP: the loads take turns of a
 * fraction of a second, each turn is compared with its neighbours, and the median counts. Then
 * what a trapped call costs, against a supervisor in C; and how long a start takes.
 */
import { BUILD, buildBaselines } from "./baseline.ts";
import { median } from "./median.ts";
import { CPUS } from "./processors.ts";
import { benchStart } from "./start.ts";
import { cannotCount, countConnections } from "./wrap-counts.ts";
import { type Course, compare, type Kind, type Rates } from "./wrap-load.ts";
import { type Served, startNginx, startRedis } from "./wrap-servers.ts";
import { Bench, untilServed } from "./wrap-stage.ts";

export type WrapResult = {
  readonly id: string;
  readonly unit: "ns" | "requests/s" | "ms" | "calls" | "switches";
  readonly value: number;
  readonly baseline: number;
  readonly baselineName: string;
  /** value / baseline; of loads the median of the turns' ratios, since a machine is seldom as fast as a moment ago */
  readonly ratio: number;
  /** Of the ratio, or of the value where that is said. */
  readonly asked?: string;
};

const ROUNDS = 5;
const TRAPS = 20_000;

function rate(id: string, rates: Rates, [others, baselineName]: [Rates, string], asked?: string): WrapResult {
  const ratio = median(rates.map((each, turn) => each / (others[turn] ?? Number.NaN)));
  const [value, baseline] = [median(rates), median(others)];
  const result = { id, unit: "requests/s", value, baseline, baselineName, ratio } as const;
  return asked === undefined ? result : { ...result, asked };
}

const AS_UNIX = ">= 0.97";
const KEEP_REDIS: Kind = { protocol: "redis", way: "keep" };
const KEEP: Kind = { protocol: "http", way: "keep" };
const ANEW: Kind = { protocol: "http", way: "anew" };

type Way = "wrapped" | "unix" | "tcp";

/** `plain`: a TCP client that is not wrapped, at the wrapped server. */
function coursesOf({ wrapped, unix, tcp }: Served): Record<Way | "plain", Course> {
  return {
    wrapped: { address: wrapped, under: "wrap" },
    unix: { address: unix, under: "nothing" },
    tcp: { address: tcp, under: "nothing" },
    plain: { address: wrapped, under: "nothing" },
  };
}

/** Where TCP is as fast as a Unix socket, nothing is asked against it. */
function keptAlive(name: string, { wrapped, unix, tcp }: Readonly<Record<Way, Rates>>): WrapResult[] {
  const againstTcp = median(unix) >= 1.1 * median(tcp) ? ">= 1.1" : "none: the Unix socket is not 1.1 x TCP here";
  return [
    rate(`${name}.vs-unix`, wrapped, [unix, "native Unix socket"], AS_UNIX),
    rate(`${name}.vs-tcp`, wrapped, [tcp, "TCP loopback"], againstTcp),
  ];
}

/**
 * Servers have the first processor, loads the second one, and supervisors either: where the scheduler would put the two
 * makes a difference larger than what is asked for.
 */
function onProcessor<Name extends string>(cpu: number, courses: Record<Name, Course>): Record<Name, Course> {
  const entries = Object.entries<Course>(courses).map(([name, course]) => [name, { ...course, cpu }]);
  return Object.fromEntries(entries) as Record<Name, Course>;
}

async function benchRedis(bench: Bench): Promise<WrapResult[]> {
  const served = await startRedis(bench);
  const { wrapped, unix, tcp } = coursesOf(served);
  const filter: Course = { address: served.filtered, under: "filter" };
  const kept = await compare(bench, KEEP_REDIS, onProcessor(CPUS[1], { wrapped, unix, tcp, filter }));
  return [
    ...keptAlive("wrap.redis", kept),
    rate("wrap.redis.filter.vs-unix", kept.filter, [kept.unix, "native Unix socket"]),
  ];
}

async function benchNginx(bench: Bench): Promise<WrapResult[]> {
  const served = await startNginx(bench);
  const { c, ...courses } = onProcessor(CPUS[1], { ...coursesOf(served), c: { address: served.c, under: "c" } });
  const kept = await compare(bench, KEEP, courses);
  const anew = await compare(bench, ANEW, { ...courses, c });
  const { wrap, c: least } = served.supervisors;
  const results = [
    ...keptAlive("wrap.nginx.keepalive", kept),
    rate("wrap.nginx.connections.vs-tcp", anew.wrapped, [anew.tcp, "TCP loopback"], ">= 0.9"),
    rate("wrap.nginx.connections.c.vs-tcp", anew.c, [anew.tcp, "TCP loopback"]),
    rate("wrap.nginx.plain.keepalive.vs-tcp", kept.plain, [kept.tcp, "TCP loopback"]),
    rate("wrap.nginx.plain.connections.vs-tcp", anew.plain, [anew.tcp, "TCP loopback"]),
  ];
  const obstacle = cannotCount();
  if (obstacle !== undefined) process.stderr.write(`Not counted: ${obstacle}\n`);
  if (obstacle !== undefined) return results;
  const ours = await countConnections(bench, ANEW, courses.wrapped, wrap);
  const theirs = await countConnections(bench, ANEW, c, least);
  const counted = (["calls", "switches"] as const).map((unit): WrapResult => {
    const [value, baseline] = [ours[unit], theirs[unit]];
    const id = `wrap.nginx.connections.${unit}`;
    return { id, unit, value, baseline, baselineName: "C supervisors", ratio: value / baseline };
  });
  return [...results, ...counted];
}

const SILENT_SERVER = `
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True: kept = listener.accept()
`;

async function benchTrap(bench: Bench): Promise<WrapResult[]> {
  const port = bench.port();
  bench.start(["python3", "-c", SILENT_SERVER, String(port)], "wrap");
  await untilServed(port);
  const [ours, theirs]: [number[], number[]] = [[], []];
  for (let round = 0; round < ROUNDS; round++) {
    ours.push(Number(bench.run([`${BUILD}trap`, "call", String(port), String(TRAPS)], "wrap")));
    theirs.push(Number(bench.run([`${BUILD}trap`, "supervise", String(TRAPS)], "nothing")));
  }
  const [value, baseline] = [median(ours), median(theirs)];
  const ratio = value / baseline;
  return [{ id: "wrap.trap.ns", unit: "ns", value, baseline, baselineName: "C supervisor", ratio, asked: "<= 1.5" }];
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

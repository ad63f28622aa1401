/** The channel on Bun at both ends against C that does the same job; both sides of a ratio take turns in one run. */
import { availableParallelism } from "node:os";
import { pinToCpu } from "../ffi/mod.ts";
import { DEFAULT_SPIN_US } from "../lib/channel/adaptive-spin.ts";
import type { Channel } from "../lib/channel/channel.ts";
import { buildBaselines, runBaseline } from "./baseline.ts";
import { type Pair, startPair } from "./pair.ts";
import type { Command } from "./peer.ts";

export type Result = {
  readonly id: string;
  readonly unit: "ns" | "messages/s";
  readonly value: number;
  readonly baseline: number;
  readonly baselineName: string;
  /** value / baseline */
  readonly ratio: number;
};

const ROUNDS = 7;
const CAPACITY = 1 << 20;
const BATCH = 16;
const TWO_CPUS: boolean = availableParallelism() > 1;
const CPUS: readonly [number, number] = TWO_CPUS ? [0, 1] : [0, 0];

function command(channel: Channel, what: Command): void {
  channel.send(new TextEncoder().encode(JSON.stringify(what)));
}

/** @returns nanoseconds for each round trip */
function roundTrip(channel: Channel, size: number, count: number): number {
  const bytes = new Uint8Array(size);
  command(channel, { kind: "echo", size, count });
  const start = performance.now();
  for (let index = 0; index < count; index++) {
    channel.send(bytes);
    channel.receiveInto(bytes);
  }
  return ((performance.now() - start) * 1e6) / count;
}

/** @returns nanoseconds for each message, until the last one has been received */
function throughput(channel: Channel, size: number, count: number): number {
  const bytes = new Uint8Array(size);
  command(channel, { kind: "sink", size, count });
  const start = performance.now();
  for (let index = 0; index < count; index++) channel.send(bytes);
  channel.receive();
  return ((performance.now() - start) * 1e6) / count;
}

function batchThroughput(channel: Channel, size: number, count: number): number {
  const batch = new Uint8Array(size * BATCH);
  command(channel, { kind: "drain", size, count });
  const start = performance.now();
  for (let index = 0; index < count; index += BATCH) channel.sendPacked(batch, size);
  channel.receive();
  return ((performance.now() - start) * 1e6) / count;
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? Number.NaN;
}

type Question = {
  readonly id: string;
  readonly unit: Result["unit"];
  readonly baselineName: string;
  readonly measure: () => number;
  readonly measureBaseline: () => number;
};

/** Medians of both sides; nanoseconds become messages a second where that is the unit. */
function answer({ id, unit, baselineName, measure, measureBaseline }: Question): Result {
  const values: number[] = [];
  const baselines: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    baselines.push(measureBaseline());
    values.push(measure());
  }
  const convert = (ns: number): number => (unit === "ns" ? ns : 1e9 / ns);
  const [value, baseline] = [convert(median(values)), convert(median(baselines))];
  return {
    id,
    unit,
    value: round(value),
    baseline: round(baseline),
    baselineName,
    ratio: round(value / baseline, 1000),
  };
}

function round(value: number, scale = 10): number {
  return Math.round(value * scale) / scale;
}

function ringQuestions(channel: Channel, sleeper: Channel): Question[] {
  const c = (mode: string, size: number, count: number) => () => runBaseline("ring", mode, size, count, ...CPUS);
  const unix = () => runBaseline("socket", "unix", "throughput", 64, 200_000, ...CPUS);
  const rate = { unit: "messages/s", baselineName: "C ring" } as const;
  const small = () => throughput(channel, 64, 2_000_000);
  const smallC = c("throughput", 64, 10_000_000);
  return [
    {
      id: "ring.rtt.64",
      unit: "ns",
      baselineName: "C ring",
      measure: () => roundTrip(channel, 64, 200_000),
      measureBaseline: c("rtt", 64, 400_000),
    },
    { id: "ring.throughput.64", ...rate, measure: small, measureBaseline: smallC },
    { id: "ring.throughput.64.unix", ...rate, baselineName: "C Unix socket", measure: small, measureBaseline: unix },
    {
      id: "ring.throughput.64.batch",
      ...rate,
      baselineName: "C ring, one at a time",
      measure: () => batchThroughput(channel, 64, 4_000_000),
      measureBaseline: smallC,
    },
    {
      id: "ring.throughput.4096",
      ...rate,
      measure: () => throughput(channel, 4096, 300_000),
      measureBaseline: c("throughput", 4096, 500_000),
    },
    {
      id: "ring.throughput.65536",
      ...rate,
      measure: () => throughput(channel, 65536, 20_000),
      measureBaseline: c("throughput", 65536, 30_000),
    },
    {
      id: "ring.wake.rtt",
      unit: "ns",
      baselineName: "C eventfd pair",
      measure: () => roundTrip(sleeper, 64, 2_000),
      measureBaseline: () => runBaseline("wake", 2_000, ...CPUS),
    },
  ];
}

function socketQuestions(family: "unix" | "tcp"): Question[] {
  const ask = (mode: string, count: number) => () => runBaseline("socket", family, mode, 64, count, ...CPUS);
  return [
    {
      id: `${family}.rtt.64`,
      unit: "ns",
      baselineName: "C ring",
      measure: ask("rtt", 3_000),
      measureBaseline: () => runBaseline("ring", "rtt", 64, 400_000, ...CPUS),
    },
    {
      id: `${family}.throughput.64`,
      unit: "messages/s",
      baselineName: "C ring",
      measure: ask("throughput", 100_000),
      measureBaseline: () => runBaseline("ring", "throughput", 64, 10_000_000, ...CPUS),
    },
  ];
}

/** The compiler's turn. Only then are the main threads pinned: a thread inherits its maker's processors, and the
 *  runtime's compiler threads on the processor that a ring spins on would be measured as the ring. */
function warmUp(questions: readonly Question[], pairs: readonly Pair[]): void {
  for (const { measure } of questions) for (let time = 0; time < 2; time++) measure();
  if (!TWO_CPUS) return;
  for (const { channel } of pairs) command(channel, { kind: "pin", size: CPUS[1], count: 0 });
  pinToCpu(CPUS[0]);
}

/** Answers every question in turn. @param ids  only these, unless empty  @param report  told of each answer as it comes */
export async function benchRing(ids: readonly string[], report: (result: Result) => void): Promise<readonly Result[]> {
  buildBaselines();
  const pairs: Pair[] = [];
  const results: Result[] = [];
  try {
    for (const spinUs of [DEFAULT_SPIN_US, 0]) pairs.push(await startPair({ capacity: CAPACITY, spinUs }));
    const [spinning, sleeping] = pairs;
    if (spinning === undefined || sleeping === undefined) throw new TypeError("Cannot measure without channels");
    const questions = [
      ...ringQuestions(spinning.channel, sleeping.channel),
      ...socketQuestions("unix"),
      ...socketQuestions("tcp"),
    ];
    const asked = questions.filter(({ id }) => ids.length === 0 || ids.includes(id));
    warmUp(asked, pairs);
    for (const question of asked) {
      const result = answer(question);
      report(result);
      results.push(result);
    }
  } finally {
    for (const pair of pairs) await pair.stop();
  }
  return results;
}

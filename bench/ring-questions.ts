/**
 * What is asked of a channel on Bun, each against C that does the same job: the ids of the design; sockets beside them; and
 * `ring.step.`, how close each step of the tuning comes to the C ring: the same with one thing left out, or put in.
 */
import { DEFAULT_SPIN_US } from "../lib/channel/adaptive-spin.ts";
import type { Channel, EndOptions } from "../lib/channel/channel.ts";
import type { Question } from "./answer.ts";
import { runBaseline } from "./baseline.ts";
import { CPUS } from "./processors.ts";
import { batchThroughput, freshThroughput, roundTrip, throughput } from "./ring-measures.ts";

const spinUs: number = DEFAULT_SPIN_US;

/** The channels that questions need. */
export type EndName = "spinning" | "sleeping" | "trusted" | "typescript" | "paged" | "huge";

export const ENDS: Readonly<Record<EndName, EndOptions>> = {
  spinning: { spinUs },
  sleeping: { spinUs: 0 },
  trusted: { spinUs, trust: "trusted" },
  typescript: { spinUs, machineCode: false },
  paged: { spinUs, prefault: false },
  huge: { spinUs, prefault: false, hugePages: true },
};

/** Both measurements are given a channel of each of the `ends`, and answer nanoseconds for one operation. */
export type RingQuestion = Omit<Question, "measure" | "measureBaseline"> & {
  readonly ends: readonly EndName[];
  readonly measure: (channel: Channel) => number;
  readonly measureBaseline: (channel: Channel, other: Channel) => number;
};

type Measure = RingQuestion["measure"];

const c = (mode: string, size: number, count: number) => () => runBaseline("ring", mode, size, count, ...CPUS);
const of =
  (size: number, count: number): Measure =>
  (channel) =>
    throughput(channel, size, count);
const trip =
  (count: number): Measure =>
  (channel) =>
    roundTrip(channel, 64, count);
const batch =
  (count: number): Measure =>
  (channel) =>
    batchThroughput(channel, 64, count);

const RATE = { unit: "messages/s", baselineName: "C ring", ends: ["spinning"] } as const;
const TRIP = { unit: "ns", baselineName: "C ring", measureBaseline: c("rtt", 64, 60_000) } as const;
const SMALL_C = c("throughput", 64, 3_000_000);
const LARGE_C = c("throughput", 4096, 150_000);
const HUGE_C = c("throughput", 65536, 8_000);

/** Copied out, against a trusted reader in place. */
function strict(size: number, count: number, inPlace: number): RingQuestion {
  return {
    id: `ring.strict.${size}`,
    unit: "messages/s",
    baselineName: "trusted, in place",
    asked: ">= 0.8",
    ends: ["spinning", "trusted"],
    measure: of(size, count),
    measureBaseline: (_, trusted) => throughput(trusted, size, inPlace, "read"),
  };
}

const RING: readonly RingQuestion[] = [
  { id: "ring.rtt.64", asked: "<= 1.15", ...TRIP, ends: ["spinning"], measure: trip(40_000) },
  { id: "ring.throughput.64", asked: ">= 0.2", ...RATE, measure: of(64, 600_000), measureBaseline: SMALL_C },
  {
    id: "ring.throughput.64.unix",
    asked: ">= 15",
    ...RATE,
    baselineName: "C Unix socket",
    measure: of(64, 600_000),
    measureBaseline: () => runBaseline("socket", "unix", "throughput", 64, 60_000, ...CPUS),
  },
  {
    id: "ring.throughput.64.batch",
    asked: ">= 0.7",
    ...RATE,
    baselineName: "C ring, one at a time",
    measure: batch(2_000_000),
    measureBaseline: SMALL_C,
  },
  { id: "ring.throughput.4096", asked: ">= 0.85", ...RATE, measure: of(4096, 100_000), measureBaseline: LARGE_C },
  { id: "ring.throughput.65536", asked: ">= 0.85", ...RATE, measure: of(65536, 6_000), measureBaseline: HUGE_C },
  strict(64, 600_000, 200_000),
  strict(4096, 100_000, 100_000),
  strict(65536, 6_000, 6_000),
  {
    id: "ring.wake.rtt",
    asked: "<= 1.2",
    unit: "ns",
    baselineName: "C eventfd pair",
    ends: ["sleeping"],
    measure: trip(600),
    measureBaseline: () => runBaseline("wake", 600, ...CPUS),
  },
];

/** A buffer that is new each time is copied through set(); one that comes again as words; then by machine code. */
const STEPS: readonly RingQuestion[] = [
  { name: "64.new-buffer", end: "typescript", measure: fresh, measureBaseline: SMALL_C },
  { name: "64.same-buffer", end: "typescript", measure: of(64, 400_000), measureBaseline: SMALL_C },
  { name: "64.machine-code", end: "spinning", measure: of(64, 600_000), measureBaseline: SMALL_C },
  { name: "64.batch", end: "typescript", measure: batch(1_000_000), measureBaseline: SMALL_C },
  { name: "64.batch.machine-code", end: "spinning", measure: batch(2_000_000), measureBaseline: SMALL_C },
  { name: "rtt.64.typescript", end: "typescript", ...TRIP, measure: trip(40_000) },
  { name: "rtt.64.machine-code", end: "spinning", ...TRIP, measure: trip(40_000) },
  { name: "65536.typescript", end: "typescript", measure: of(65536, 6_000), measureBaseline: HUGE_C },
  { name: "65536.pages-as-used", end: "paged", measure: of(65536, 6_000), measureBaseline: HUGE_C },
  { name: "65536.prefault", end: "spinning", measure: of(65536, 6_000), measureBaseline: HUGE_C },
  { name: "65536.huge-pages", end: "huge", measure: of(65536, 6_000), measureBaseline: HUGE_C },
].map(({ name, end, ...rest }) => ({ ...RATE, ...rest, id: `ring.step.${name}`, ends: [end as EndName] }));

function fresh(channel: Channel): number {
  return freshThroughput(channel, 64, 200_000);
}

function socket(family: "unix" | "tcp"): readonly RingQuestion[] {
  const ask = (mode: string, count: number) => () => runBaseline("socket", family, mode, 64, count, ...CPUS);
  return [
    { id: `${family}.rtt.64`, ...TRIP, ends: [], measure: ask("rtt", 600) },
    { id: `${family}.throughput.64`, ...RATE, ends: [], measure: ask("throughput", 40_000), measureBaseline: SMALL_C },
  ];
}

export const QUESTIONS: readonly RingQuestion[] = [...RING, ...socket("unix"), ...socket("tcp"), ...STEPS];

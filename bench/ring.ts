/** The channel on Bun at both ends against C that does the same job; both sides of a ratio take turns in one run. */
import { execFileSync } from "node:child_process";
import { pinToCpu } from "../ffi/mod.ts";
import { DEFAULT_SPIN_US } from "../lib/channel/adaptive-spin.ts";
import type { Channel, EndOptions } from "../lib/channel/channel.ts";
import { BUN, ROOT } from "../test/helpers/runtimes.ts";
import { answer, type Question, type Result } from "./answer.ts";
import { buildBaselines, runBaseline } from "./baseline.ts";
import { type Pair, startPair } from "./pair.ts";
import { CPUS, TWO_CPUS } from "./processors.ts";
import { batchThroughput, command, roundTrip, throughput } from "./ring-measures.ts";
import { STEP_ENDS, stepQuestions } from "./ring-steps.ts";

const CAPACITY = 1 << 20; // as the C ring
const HUGE_PAGE = 1 << 21;
const STEPS = "ring.step.";

const spinUs: number = DEFAULT_SPIN_US;
const ENDS = {
  spinning: { spinUs },
  sleeping: { spinUs: 0 },
  trusted: { spinUs, trust: "trusted" },
} as const satisfies Record<string, EndOptions>;

type Channels<Name extends string> = Readonly<Record<Name, Channel>>;

const c = (mode: string, size: number, count: number) => () => runBaseline("ring", mode, size, count, ...CPUS);

function ringQuestions({ spinning, sleeping, trusted }: Channels<keyof typeof ENDS>): Question[] {
  const unix = () => runBaseline("socket", "unix", "throughput", 64, 200_000, ...CPUS);
  const rate = { unit: "messages/s", baselineName: "C ring" } as const;
  const of = (size: number, count: number) => () => throughput(spinning, size, count);
  const [small, smallC] = [of(64, 2_000_000), c("throughput", 64, 10_000_000)];
  const [large, huge] = [of(4096, 300_000), of(65536, 20_000)];
  const inPlace = (size: number, count: number) =>
    ({
      unit: "messages/s",
      baselineName: "trusted, in place",
      measureBaseline: () => throughput(trusted, size, count, "read"),
    }) as const;
  return [
    {
      id: "ring.rtt.64",
      unit: "ns",
      baselineName: "C ring",
      measure: () => roundTrip(spinning, 64, 200_000),
      measureBaseline: c("rtt", 64, 400_000),
    },
    { id: "ring.throughput.64", ...rate, measure: small, measureBaseline: smallC },
    { id: "ring.throughput.64.unix", ...rate, baselineName: "C Unix socket", measure: small, measureBaseline: unix },
    {
      id: "ring.throughput.64.batch",
      ...rate,
      baselineName: "C ring, one at a time",
      measure: () => batchThroughput(spinning, 64, 4_000_000),
      measureBaseline: smallC,
    },
    { id: "ring.throughput.4096", ...rate, measure: large, measureBaseline: c("throughput", 4096, 500_000) },
    { id: "ring.throughput.65536", ...rate, measure: huge, measureBaseline: c("throughput", 65536, 30_000) },
    { id: "ring.strict.64", ...inPlace(64, 500_000), measure: small },
    { id: "ring.strict.4096", ...inPlace(4096, 300_000), measure: large },
    { id: "ring.strict.65536", ...inPlace(65536, 20_000), measure: huge },
    {
      id: "ring.wake.rtt",
      unit: "ns",
      baselineName: "C eventfd pair",
      measure: () => roundTrip(sleeping, 64, 2_000),
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
      measureBaseline: c("rtt", 64, 400_000),
    },
    {
      id: `${family}.throughput.64`,
      unit: "messages/s",
      baselineName: "C ring",
      measure: ask("throughput", 100_000),
      measureBaseline: c("throughput", 64, 10_000_000),
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

/** Answers those questions in turn that can be asked of channels with these options. */
async function ask<Name extends string>(
  ends: Readonly<Record<Name, EndOptions>>,
  questionsOf: (channels: Channels<Name>) => readonly Question[],
  wanted: (id: string) => boolean,
  report: (result: Result) => void,
): Promise<readonly Result[]> {
  const pairs: Pair[] = [];
  try {
    const channels: Partial<Record<Name, Channel>> = {};
    for (const name of Object.keys(ends) as Name[]) {
      const pair = await startPair({ capacity: ends[name].hugePages ? HUGE_PAGE : CAPACITY, end: ends[name] });
      pairs.push(pair);
      channels[name] = pair.channel;
    }
    const asked = questionsOf(channels as Channels<Name>).filter(({ id }) => wanted(id));
    warmUp(asked, pairs);
    return asked.map((question) => {
      const result = answer(question);
      report(result);
      return result;
    });
  } finally {
    for (const pair of pairs) await pair.stop();
  }
}

/** In a process of its own: what the compiler makes of a channel with one thing left out would be measured as the channel. */
function askElsewhere(ids: readonly string[], report: (result: Result) => void): readonly Result[] {
  const [program = "", ...args] = BUN.command("bench/run.ts", "ring", "--json", ...ids);
  const output = execFileSync(program, args, { cwd: ROOT, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
  const { results } = JSON.parse(output) as { results: readonly Result[] };
  for (const result of results) report(result);
  return results;
}

const isStep = (id: string): boolean => id.startsWith(STEPS);

/** Answers every question in turn. @param ids  only these, unless empty; "ring.step." is all of the steps
 *  @param report  told of each answer as it comes */
export async function benchRing(ids: readonly string[], report: (result: Result) => void): Promise<readonly Result[]> {
  buildBaselines();
  const wanted = (id: string): boolean => ids.length === 0 || ids.includes(id);
  if (ids.length > 0 && ids.every(isStep)) {
    const all = ids.includes(STEPS);
    return ask(
      STEP_ENDS,
      (channels) => stepQuestions(channels, c),
      (id) => all || wanted(id),
      report,
    );
  }
  const steps = ids.length === 0 ? [STEPS] : ids.filter(isStep);
  const first = steps.length > 0 ? askElsewhere(steps, report) : [];
  const questions = (channels: Channels<keyof typeof ENDS>) => [
    ...ringQuestions(channels),
    ...socketQuestions("unix"),
    ...socketQuestions("tcp"),
  ];
  return [...(await ask(ENDS, questions, wanted, report)), ...first];
}

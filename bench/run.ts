/**
 * `bun bench/run.ts SUITE [--json] [--plot FILE.svg] [id…]`: a table for people, or one JSON object; all questions or some.
 * Progress goes to standard error.
 *
 *   ring      the channel against C: the ids of ring-questions.ts, `ring.step.` for how close each step of the
 *             tuning comes; and `profile`, sizes on every runtime, which --plot draws
 *   wrap      wrapped programs against Unix sockets and TCP; what a wrapped start costs
 *   broker    the broker against libwayland and C: round trip, dial, 10,000 channels and `ls` of them, fds
 */
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import type { Result } from "./answer.ts";
import { benchBroker, leftOut } from "./broker.ts";
import type { BrokerResult } from "./broker-setup.ts";
import { plotProfile } from "./plot.ts";
import { benchProfile } from "./profile.ts";
import type { Series } from "./profile-shape.ts";
import { benchRing } from "./ring.ts";
import { benchWrap, type WrapResult } from "./wrap.ts";

const SUITES = { ring: benchRing, wrap: benchWrap, broker: benchBroker } as const;
const PROFILE = "profile";

type Suite = keyof typeof SUITES;
type Asked = {
  readonly suite: Suite;
  readonly ids: readonly string[];
  readonly json: boolean;
  readonly plot?: string | undefined;
};

function usage(): never {
  process.stderr.write("Usage: bun bench/run.ts ring|wrap|broker [--json] [--plot FILE.svg] [id…]\n");
  process.exit(2);
}

function readArguments(): Asked {
  try {
    const options = { json: { type: "boolean", default: false }, plot: { type: "string" } } as const;
    const { values, positionals } = parseArgs({ options, allowPositionals: true });
    const [suite, ...ids] = positionals;
    if (suite !== "ring" && suite !== "wrap" && suite !== "broker") usage();
    if (values.plot !== undefined && suite !== "ring") usage();
    return { suite, ids, json: values.json, plot: values.plot };
  } catch {
    return usage();
  }
}

function row(cells: readonly string[]): string {
  return cells.map((cell, index) => (index === 0 ? cell.padEnd(33) : cell.padStart(24))).join("");
}

function resultRow(result: Result | WrapResult | BrokerResult): string {
  const { id, unit, value, baseline, baselineName, ratio } = result;
  const asked = "asked" in result && result.asked !== undefined ? `   ${result.asked}` : "";
  const show = (number: number): string =>
    `${(number < 100 ? Math.round(number * 10) / 10 : Math.round(number)).toLocaleString("en")} ${unit}`;
  return row([id, show(value), show(baseline), baselineName, ratio.toFixed(3)]) + asked;
}

function profileRows({ name, placement, coldUs, deathUs, wakeupsSaved, sizes }: Series): string {
  const single = [
    coldUs === undefined ? [] : `first message ${coldUs} µs`,
    deathUs === undefined ? [] : `a death is noticed after ${deathUs} µs`,
    wakeupsSaved === undefined ? [] : `${(wakeupsSaved * 100).toFixed(1)} % of wake-ups saved`,
  ].flat();
  const title = `\n${name}, ${placement === "two" ? "two processors" : "one processor"}${single.map((each) => `; ${each}`).join("")}`;
  const head = [
    "bytes",
    "p50 ns",
    "p99 ns",
    "p99.9 ns",
    "in place: p50",
    "p99",
    "p99.9",
    "messages/s",
    "in place/s",
    "MB/s",
  ];
  const lines = sizes.map(({ size, rttNs, trustedRttNs: place, messagesPerSecond, trustedMessagesPerSecond }) => {
    const megabytes = Math.round((size * messagesPerSecond) / 1e6);
    const [p50, p99, p999] = [place?.p50 ?? "-", place?.p99 ?? "-", place?.p999 ?? "-"];
    return [
      size,
      rttNs.p50,
      rttNs.p99,
      rttNs.p999,
      p50,
      p99,
      p999,
      messagesPerSecond,
      trustedMessagesPerSecond ?? "-",
      megabytes,
    ];
  });
  return [title, ...[head, ...lines].map((cells) => cells.map((cell) => show(cell).padStart(13)).join(""))].join("\n");
}

function show(cell: string | number): string {
  return typeof cell === "number" ? cell.toLocaleString("en") : cell;
}

const { suite, ids, json, plot } = readArguments();
const questions = ids.filter((id) => id !== PROFILE);
const wantsProfile = suite === "ring" && (ids.length === 0 || ids.includes(PROFILE) || plot !== undefined);
const wantsQuestions = ids.length === 0 ? true : questions.length > 0;

if (!json && wantsQuestions) console.log(row(["", "measured", "against", "", "ratio"]));
// Measured before the questions pin this process to one processor: programs that it starts would inherit that.
const profile = wantsProfile
  ? benchProfile((series) => {
      process.stderr.write(`${series.name}, ${series.placement}\n`);
    })
  : [];
const results = wantsQuestions
  ? await SUITES[suite](questions, (result) => {
      if (!json) console.log(resultRow(result));
      else process.stderr.write(`${resultRow(result)}\n`); // what is measured is there, whatever comes after
    })
  : [];
const unknown = questions.filter((asked) => !results.some(({ id }) => id.startsWith(asked)));
if (unknown.length > 0 && leftOut.length === 0) {
  process.stderr.write(`Cannot measure ${unknown.join(", ")}: there is no such question\n`);
  process.exitCode = 2;
}
if (plot !== undefined) writeFileSync(plot, plotProfile(profile));
for (const what of leftOut) process.stderr.write(`Not measured: ${what}\n`);
const missing = leftOut.length === 0 ? {} : { leftOut };
if (json) console.log(JSON.stringify({ results, ...missing, ...(wantsProfile ? { profile } : {}) }));
else for (const series of profile) console.log(profileRows(series));

/** Channels over sizes on every runtime, on two processors and on one, with a C ring, pipe, Unix socket and TCP beside them. */
import { execFileSync } from "node:child_process";
import { buildForNode, ROOT, RUNTIMES } from "../test/helpers/runtimes.ts";
import { type Baseline, buildBaselines, runBaseline, runPercentiles } from "./baseline.ts";
import { CPUS, TWO_CPUS } from "./processors.ts";
import {
  capacityFor,
  countFor,
  middle,
  type Placement,
  type Series,
  SIZES,
  type SideProfile,
} from "./profile-shape.ts";

export const PLACEMENTS: readonly Placement[] = TWO_CPUS ? ["two", "one"] : ["one"];
const SOCKETS = ["pipe", "unix", "tcp"] as const;
const NAMES = { pipe: "C pipe", unix: "C Unix socket", tcp: "C TCP loopback" } as const;

/** @param report  told of each series as it comes */
export function benchProfile(report: (series: Series) => void): readonly Series[] {
  buildBaselines();
  buildForNode();
  const all: Series[] = [];
  const add = (series: Series): void => {
    all.push(series);
    report(series);
  };
  for (const placement of PLACEMENTS) {
    for (const { name, command } of RUNTIMES) {
      const [file = "", ...args] = command("bench/profile-side.ts", name, placement);
      const output = execFileSync(file, args, { cwd: ROOT, encoding: "utf8" });
      add({ name: `shmlink on ${name}`, placement, ...(JSON.parse(output) as SideProfile) });
    }
    if (placement === "two") add({ name: "C ring", placement, sizes: SIZES.map((size) => ringSize(size)) });
    for (const family of SOCKETS)
      add({ name: NAMES[family], placement, sizes: SIZES.map((size) => socketSize(family, size, placement)) });
  }
  return all;
}

/** It only spins, so it needs a processor for each side. */
function ringSize(size: number): SideProfile["sizes"][number] {
  const program: Baseline = capacityFor(size) > 2 ** 20 ? "ring-large" : "ring";
  const measure = (mode: string, count: number) => [program, mode, size, count, ...CPUS] as const;
  const [p50, p99, p999] = runPercentiles(...measure("each", countFor(size, "rtt", "two")));
  const many = 16 * countFor(size, "throughput", "two"); // or it is over before the processors are at their speed
  const rounds = [1, 2, 3].map(() => runBaseline(...measure("throughput", many)));
  const ns = middle(rounds, (each) => each);
  return { size, rttNs: { p50, p99, p999 }, messagesPerSecond: Math.round(1e9 / ns) };
}

function socketSize(family: string, size: number, placement: Placement): SideProfile["sizes"][number] {
  const cpus = placement === "two" ? CPUS : ([CPUS[0], CPUS[0]] as const);
  const few = Math.min(2000, countFor(size, "rtt", placement));
  const many = Math.min(60_000, countFor(size, "throughput", placement));
  const [p50, p99, p999] = runPercentiles("socket", family, "each", size, few, ...cpus);
  const ns = runBaseline("socket", family, "throughput", size, many, ...cpus);
  return { size, rttNs: { p50, p99, p999 }, messagesPerSecond: Math.round(1e9 / ns) };
}

/**
 * How close each step of the tuning comes to the C ring: the same measurement with one thing left out, or put in. Beside
 * ring.throughput.64, .64.batch, .65536 and ring.rtt.64, which have all of them.
 */
import { DEFAULT_SPIN_US } from "../lib/channel/adaptive-spin.ts";
import type { Channel, EndOptions } from "../lib/channel/channel.ts";
import type { Question } from "./answer.ts";
import { batchThroughput, freshThroughput, roundTrip, throughput } from "./ring-measures.ts";

const spinUs: number = DEFAULT_SPIN_US;

/** The channels that the steps need, by name. */
export const STEP_ENDS: Readonly<Record<"typescript" | "machine" | "paged" | "huge", EndOptions>> = {
  typescript: { spinUs, machineCode: false },
  machine: { spinUs },
  paged: { spinUs, prefault: false },
  huge: { spinUs, prefault: false, hugePages: true },
};

export type StepChannels = Readonly<Record<keyof typeof STEP_ENDS, Channel>>;

/** @param c  the C ring: what, bytes, how often */
export function stepQuestions(
  { typescript, machine, paged, huge }: StepChannels,
  c: (mode: string, size: number, count: number) => () => number,
): Question[] {
  const rate = { unit: "messages/s", baselineName: "C ring" } as const;
  const small = { ...rate, measureBaseline: c("throughput", 64, 10_000_000) };
  const large = { ...rate, measureBaseline: c("throughput", 65536, 30_000) };
  const trip = { unit: "ns", baselineName: "C ring", measureBaseline: c("rtt", 64, 400_000) } as const;
  return [
    // A buffer that is new each time is copied through set(); one that comes again as words; then by machine code.
    { id: "ring.step.64.new-buffer", ...small, measure: () => freshThroughput(typescript, 64, 500_000) },
    { id: "ring.step.64.same-buffer", ...small, measure: () => throughput(typescript, 64, 1_000_000) },
    { id: "ring.step.64.machine-code", ...small, measure: () => throughput(machine, 64, 2_000_000) },
    { id: "ring.step.64.batch", ...small, measure: () => batchThroughput(typescript, 64, 2_000_000) },
    { id: "ring.step.64.batch.machine-code", ...small, measure: () => batchThroughput(machine, 64, 4_000_000) },
    { id: "ring.step.rtt.64.typescript", ...trip, measure: () => roundTrip(typescript, 64, 200_000) },
    { id: "ring.step.rtt.64.machine-code", ...trip, measure: () => roundTrip(machine, 64, 200_000) },
    { id: "ring.step.65536.typescript", ...large, measure: () => throughput(typescript, 65536, 20_000) },
    { id: "ring.step.65536.pages-as-used", ...large, measure: () => throughput(paged, 65536, 20_000) },
    { id: "ring.step.65536.prefault", ...large, measure: () => throughput(machine, 65536, 20_000) },
    { id: "ring.step.65536.huge-pages", ...large, measure: () => throughput(huge, 65536, 20_000) },
  ];
}

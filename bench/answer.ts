/** A question of a benchmark and its answer: both sides of a ratio take turns in one run, and medians are compared. */

export type Result = {
  readonly id: string;
  readonly unit: "ns" | "messages/s";
  readonly value: number;
  readonly baseline: number;
  readonly baselineName: string;
  /** value / baseline */
  readonly ratio: number;
};

export type Question = {
  readonly id: string;
  readonly unit: Result["unit"];
  readonly baselineName: string;
  /** Both answer nanoseconds for one operation. */
  readonly measure: () => number;
  readonly measureBaseline: () => number;
};

const ROUNDS = 7;

/** Medians of both sides; nanoseconds become messages a second where that is the unit. */
export function answer({ id, unit, baselineName, measure, measureBaseline }: Question): Result {
  const values: number[] = [];
  const baselines: number[] = [];
  const sides = [() => baselines.push(measureBaseline()), () => values.push(measure())];
  for (let round = 0; round < ROUNDS; round++) {
    for (const side of sides) side();
    sides.reverse(); // neither always comes after the other
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

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? Number.NaN;
}

function round(value: number, scale = 10): number {
  return Math.round(value * scale) / scale;
}

/**
 * A question of a benchmark and its answer. Both sides of a ratio take turns, and each turn is compared with its two
 * neighbours: a virtual machine's processors move, and what two of them exchange takes three times as long, or a third,
 * until they move again. A turn between two neighbours that differ says nothing.
 */

export type Result = {
  readonly id: string;
  readonly unit: "ns" | "messages/s";
  readonly value: number;
  readonly baseline: number;
  readonly baselineName: string;
  /** The median of the turns' ratios, value to baseline. */
  readonly ratio: number;
  /** How many turns counted. */
  readonly turns: number;
};

export type Question = {
  readonly id: string;
  readonly unit: Result["unit"];
  readonly baselineName: string;
  /** Both answer nanoseconds for one operation. */
  readonly measure: () => number;
  readonly measureBaseline: () => number;
};

type Turn = { readonly value: number; readonly before: number; readonly after: number };

const TURNS = 15;
/** Two that are further apart were not measured on the same machine, so to say. */
const ALIKE = 1.15;
const ENOUGH = 5;

/** Medians of both sides and of their ratios; nanoseconds become messages a second where that is the unit. */
export function answer({ id, unit, baselineName, measure, measureBaseline }: Question): Result {
  const all = takeTurns(measure, measureBaseline);
  const steady = all.filter(({ before, after }) => Math.max(before, after) < ALIKE * Math.min(before, after));
  const turns = steady.length < ENOUGH ? all : steady;
  const convert = (ns: number): number => (unit === "ns" ? ns : 1e9 / ns);
  const value = (turn: Turn): number => convert(turn.value);
  const baseline = ({ before, after }: Turn): number => convert((before + after) / 2);
  return {
    id,
    unit,
    value: round(median(turns.map(value))),
    baseline: round(median(turns.map(baseline))),
    baselineName,
    ratio: round(median(turns.map((turn) => value(turn) / baseline(turn))), 1000),
    turns: turns.length,
  };
}

function takeTurns(measure: () => number, measureBaseline: () => number): readonly Turn[] {
  let before = measureBaseline();
  return Array.from({ length: TURNS }, () => {
    const value = measure();
    const turn = { value, before, after: measureBaseline() };
    before = turn.after;
    return turn;
  });
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? Number.NaN;
}

function round(value: number, scale = 10): number {
  return Math.round(value * scale) / scale;
}

/**
 * A question of a benchmark and its answer. Both sides of a ratio take turns, each twice: a virtual machine's processors
 * move, and what two of them exchange takes three times as long, or a third, until they move again; others want them, too.
 * A turn in which a side differs from itself says nothing, and of the others those count that were measured in the place
 * where the processors were most of the time. Turns are short, or the processors move within one.
 */

export type Result = {
  readonly id: string;
  readonly unit: "ns" | "messages/s";
  readonly value: number;
  readonly baseline: number;
  readonly baselineName: string;
  /** The median of the turns' ratios, value to baseline. */
  readonly ratio: number;
  /** How many turns counted, and how many did not: a side differed from itself, or the processors lay otherwise. */
  readonly turns: number;
  readonly dropped: {
    readonly unsteady: { readonly value: number; readonly baseline: number };
    readonly elsewhere: number;
  };
};

export type Question = {
  readonly id: string;
  readonly unit: Result["unit"];
  readonly baselineName: string;
  /** Both answer nanoseconds for one operation. */
  readonly measure: () => number;
  readonly measureBaseline: () => number;
};

/** Nanoseconds: both sides, each twice, in the order of the fields. */
export type Turn = {
  readonly baseline: number;
  readonly value: number;
  readonly baselineAgain: number;
  readonly valueAgain: number;
};

const TURNS = 31;
const MOST_TURNS = 120;
/** Two that are further apart were not measured on the same machine, so to say. */
const ALIKE = 1.15;
const ENOUGH = 11;

/** Medians of both sides and of their ratios; nanoseconds become messages a second where that is the unit. */
export function answer({ id, unit, baselineName, measure, measureBaseline }: Question): Result {
  const all = takeTurns(measure, measureBaseline);
  const place = mostlyAlike(all);
  const turns = place.length < ENOUGH ? all : place;
  const unsteady = {
    value: all.filter((turn) => !areAlike(turn.value, turn.valueAgain)).length,
    baseline: all.filter((turn) => !areAlike(turn.baseline, turn.baselineAgain)).length,
  };
  const elsewhere = all.filter(isSteady).length - place.length;
  const convert = (ns: number): number => (unit === "ns" ? ns : 1e9 / ns);
  const value = (turn: Turn): number => convert(ownOf(turn));
  const baseline = (turn: Turn): number => convert(baselineOf(turn));
  return {
    id,
    unit,
    value: round(median(turns.map(value))),
    baseline: round(median(turns.map(baseline))),
    baselineName,
    ratio: round(median(turns.map((turn) => value(turn) / baseline(turn))), 1000),
    turns: turns.length,
    dropped: turns === all ? { unsteady: { value: 0, baseline: 0 }, elsewhere: 0 } : { unsteady, elsewhere },
  };
}

function ownOf({ value, valueAgain }: Turn): number {
  return (value + valueAgain) / 2;
}

function baselineOf({ baseline, baselineAgain }: Turn): number {
  return (baseline + baselineAgain) / 2;
}

/** The most turns that were measured while the processors lay alike: a median over some with them near and some with them
 *  far would be that of neither. Which place that is only the baseline says. */
export function mostlyAlike(turns: readonly Turn[]): readonly Turn[] {
  const steady = turns.filter(isSteady).sort((one, other) => baselineOf(one) - baselineOf(other));
  let most: readonly Turn[] = [];
  for (const [start, first] of steady.entries()) {
    const group = steady.slice(start).filter((turn) => baselineOf(turn) < ALIKE * baselineOf(first));
    if (group.length > most.length) most = group;
  }
  return most;
}

/** Both sides have said the same twice. One side alone would be chosen for its quiet moments, and the other would not. What
 *  this leaves out is told for each side: one that stalls by itself shows there. */
function isSteady({ baseline, value, baselineAgain, valueAgain }: Turn): boolean {
  return areAlike(baseline, baselineAgain) && areAlike(value, valueAgain);
}

function areAlike(one: number, other: number): boolean {
  return Math.max(one, other) < ALIKE * Math.min(one, other);
}

/** As many as it takes to have enough that are alike. */
function takeTurns(measure: () => number, measureBaseline: () => number): readonly Turn[] {
  const turns: Turn[] = [];
  while (turns.length < TURNS || (turns.length < MOST_TURNS && mostlyAlike(turns).length < ENOUGH)) {
    turns.push({
      baseline: measureBaseline(),
      value: measure(),
      baselineAgain: measureBaseline(),
      valueAgain: measure(),
    });
  }
  return turns;
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? Number.NaN;
}

function round(value: number, scale = 10): number {
  return Math.round(value * scale) / scale;
}

/**
 * A question of a benchmark and its answer. Both sides of a ratio take turns, each twice: a virtual machine's processors
 * move, and what two of them exchange takes three times as long, or a third, until they move again; others want them, too.
 * A turn in which a side differs from itself says nothing, and of the others those count that were measured in the place
 * where the processors were most of the time. Turns are short, or the processors move within one.
 */
import { median } from "./median.ts";

/** Turns that were measured in one place: medians of the baseline and of the ratios. */
export type Place = { readonly baseline: number; readonly ratio: number; readonly turns: number };

export type Result = {
  readonly id: string;
  readonly unit: "ns" | "messages/s";
  readonly value: number;
  readonly baseline: number;
  readonly baselineName: string;
  /** The median of the turns' ratios, value to baseline. */
  readonly ratio: number;
  /** How many turns counted, all when none were alike, and how many did not: a side differed from itself, or the processors
   *  lay otherwise. */
  readonly turns: number;
  readonly dropped: {
    readonly unsteady: { readonly value: number; readonly baseline: number };
    readonly elsewhere: number;
  };
  /** What it was in each place where the processors were for long enough, the one that counts first. */
  readonly places: readonly Place[];
  /** Of the ratio, by the design. */
  readonly asked?: string | undefined;
};

export type Question = {
  readonly id: string;
  readonly unit: Result["unit"];
  readonly baselineName: string;
  readonly asked?: string | undefined;
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
/** Fewer turns in a place say nothing of it. */
const A_FEW = 3;

/** Medians of both sides and of their ratios; nanoseconds become messages a second where that is the unit. */
export function answer({ id, unit, baselineName, asked, measure, measureBaseline }: Question): Result {
  const all = takeTurns(measure, measureBaseline);
  const places = placesOf(all);
  const place = mostlyAlike(all);
  const turns = place.length < A_FEW ? all : place;
  const unsteady = {
    value: all.filter((turn) => !areAlike(turn.value, turn.valueAgain)).length,
    baseline: all.filter((turn) => !areAlike(turn.baseline, turn.baselineAgain)).length,
  };
  const elsewhere = all.filter(isSteady).length - place.length;
  const convert = (ns: number): number => (unit === "ns" ? ns : 1e9 / ns);
  const value = (turn: Turn): number => convert(ownOf(turn));
  const baseline = (turn: Turn): number => convert(baselineOf(turn));
  const ratio = (some: readonly Turn[]): number =>
    round(median(some.map((turn) => value(turn) / baseline(turn))), 1000);
  return {
    id,
    unit,
    value: round(median(turns.map(value))),
    baseline: round(median(turns.map(baseline))),
    baselineName,
    ratio: ratio(turns),
    turns: turns.length,
    dropped: { unsteady, elsewhere: turns === all ? 0 : elsewhere },
    places: places.map((some) => ({
      baseline: round(median(some.map(baseline))),
      ratio: ratio(some),
      turns: some.length,
    })),
    ...(asked === undefined ? {} : { asked }),
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

/** The turns of each place, of the one with the most first. */
function placesOf(turns: readonly Turn[]): readonly (readonly Turn[])[] {
  const places: (readonly Turn[])[] = [];
  let left = turns;
  for (let some = mostlyAlike(left); some.length >= A_FEW; some = mostlyAlike(left)) {
    places.push(some);
    left = left.filter((turn) => !some.includes(turn));
  }
  return places;
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

function round(value: number, scale = 10): number {
  return Math.round(value * scale) / scale;
}

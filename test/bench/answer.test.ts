/** Which turns of a measurement count. */
import { describe, expect, test } from "bun:test";
import { answer, mostlyAlike, type Turn } from "../../bench/answer.ts";

const turn = (baseline: number, value = 1): Turn => ({
  baseline,
  value,
  baselineAgain: baseline,
  valueAgain: value,
});

/** A baseline for each turn, in turn. */
function question(baselines: readonly number[], takes: (baseline: number) => number) {
  let calls = -1;
  const at = (index: number): number => baselines[(index >> 1) % baselines.length] ?? Number.NaN;
  return {
    id: "x",
    unit: "ns" as const,
    baselineName: "y",
    measureBaseline: () => at(++calls),
    measure: () => takes(at(calls)),
  };
}

describe("turns", () => {
  test("one in which a side differs from itself does not count, whichever it is", () => {
    const [moved, disturbed] = [
      { ...turn(100), baselineAgain: 130 },
      { ...turn(100), valueAgain: 2 },
    ];
    expect(mostlyAlike([turn(100), moved, disturbed])).toEqual([turn(100)]);
  });

  test("those count that were taken where the processors were most of the time", () => {
    const turns = [turn(200), turn(85), turn(205), turn(90), turn(220), turn(900)];
    expect(mostlyAlike(turns).map(({ baseline }) => baseline)).toEqual([200, 205, 220]);
  });

  test("the value has no say in it", () => {
    const slow = [turn(100, 500), turn(101, 500), turn(102, 500), turn(200, 1), turn(201, 1)];
    expect(mostlyAlike(slow).map(({ value }) => value)).toEqual([500, 500, 500]);
  });
});

describe("an answer", () => {
  test("is the ratio of one place, and not of two", () => {
    // Two of three baselines are 200: there it takes 20 more. On the threads of one core 85, and 60 more.
    const result = answer(question([200, 200, 85], (baseline) => (baseline === 200 ? 220 : 145)));
    expect(result).toMatchObject({ value: 220, baseline: 200, ratio: 1.1 });
    expect(result.turns).toBeGreaterThanOrEqual(11);
    expect(result.dropped.unsteady).toEqual({ value: 0, baseline: 0 });
    expect(result.dropped.elsewhere).toBeGreaterThan(0);
  });

  test("tells what it was in each place, and what is asked", () => {
    const moving = question([200, 200, 85, 900], (baseline) => (baseline === 85 ? 145 : baseline));
    const { places, asked } = answer({ ...moving, asked: "<= 1.15" });
    expect(asked).toBe("<= 1.15");
    expect(places.map(({ baseline, ratio }) => [baseline, ratio])).toEqual([
      [200, 1],
      [85, 1.706],
      [900, 1],
    ]);
    expect(places.every(({ turns }) => turns >= 3)).toBe(true);
  });

  test("goes on until enough turns are alike, and ends when they never are", () => {
    const rising = question(
      Array.from({ length: 400 }, (_, index) => 1.5 ** index),
      (baseline) => 2 * baseline,
    );
    const { turns, ratio } = answer(rising);
    expect(turns).toBe(120);
    expect(ratio).toBeGreaterThan(0);
  });

  test("turns nanoseconds into messages a second", () => {
    const result = answer({ ...question([100], () => 50), unit: "messages/s" });
    expect(result).toMatchObject({ value: 2e7, baseline: 1e7, ratio: 2 });
  });

  test("tells how often a side stalled by itself", () => {
    let calls = 0;
    const stalls = { ...question([100], () => 100), measure: () => (++calls % 6 === 0 ? 300 : 100) };
    const { ratio, turns, dropped } = answer(stalls);
    expect(ratio).toBe(1);
    expect(dropped).toEqual({ unsteady: { value: 31 - turns, baseline: 0 }, elsewhere: 0 });
    expect(turns).toBeLessThan(31);
  });
});

/** A million messages between processes that pause at random in the midst of falling asleep and waking: nobody oversleeps. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { MACHINE_COMPILER, pausedBun, stress } from "../fixtures/channel/stress.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { requires } from "../helpers/requires.ts";
import { BUN, buildForNode, DENO, NODE, type Runtime } from "../helpers/runtimes.ts";

const isX64 = process.arch === "x64";
let paused: ReturnType<typeof pausedBun> | undefined;

beforeAll(() => {
  buildForNode();
  if (isX64 && MACHINE_COMPILER.missing === undefined) paused = pausedBun();
}, 180_000);
afterAll(() => paused?.[Symbol.dispose]());
expectNoFdLeaks();

const PAIRS: readonly (readonly [Runtime, Runtime, count: number])[] = [
  [BUN, BUN, 500_000],
  [DENO, DENO, 50_000],
  [NODE, NODE, 50_000],
  [BUN, DENO, 50_000],
  [DENO, NODE, 50_000],
  [NODE, BUN, 50_000],
];

const MOST_ROUNDS = 8;

/** Hands over until both have slept: one that gets no processor finds its message there whenever it looks.
 *  @returns calls of machine code in the first round */
async function handOver(pair: readonly [Runtime, Runtime], seed: number, count: number): Promise<number> {
  const sleeps = [0, 0];
  let machine: number | undefined;
  for (let round = 0; round < MOST_ROUNDS && sleeps.some((times) => times <= count / 100); round++) {
    const sides = await stress(pair, seed, count);
    for (const [index, side] of sides.entries()) {
      expect(side.handOffs).toBeGreaterThan(count);
      expect(side.timeouts).toBe(0);
      sleeps[index] = (sleeps[index] ?? 0) + side.sleeps;
    }
    machine ??= sides.reduce((sum, side) => sum + side.machine, 0);
  }
  for (const times of sleeps) expect(times).toBeGreaterThan(count / 100);
  return machine ?? 0;
}

for (const [lead, follow, count] of PAIRS) {
  test(`${lead.name} and ${follow.name} hand ${count} messages over and sleep, always woken`, async () => {
    expect(await handOver([lead, follow], 1, count / 2)).toBe(0);
    const machine = await handOver([lead, follow], 2, count / 2);
    const hasBun = lead === BUN || follow === BUN;
    expect(machine > count / 4).toBe(hasBun && isX64);
  }, 180_000);
}

describe.skipIf(!isX64)("machine code that pauses at random", () => {
  requires.test(
    [MACHINE_COMPILER],
    "hands 500000 messages over and sleeps, always woken",
    async () => {
      const bun = paused as Runtime;
      expect(await handOver([bun, bun], 2, 500_000)).toBeGreaterThan(500_000);
    },
    180_000,
  );
});

test("without the second look a wake-up is lost, and noticed", async () => {
  let timeouts = 0;
  for (let seed = 1; timeouts === 0 && seed < 40; seed += 2) {
    const sides = await stress([BUN, BUN], seed, 5_000, "blind"); // the two have to meet, which they do not in every run
    timeouts = sides.reduce((sum, side) => sum + side.timeouts, 0);
  }
  expect(timeouts).toBeGreaterThan(0);
}, 180_000);

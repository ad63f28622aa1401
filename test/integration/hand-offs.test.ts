/** A million messages between processes that pause at random in the midst of falling asleep and waking: nobody oversleeps. */
import { beforeAll, expect, test } from "bun:test";
import { stress } from "../fixtures/channel/stress.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { BUN, buildForNode, DENO, NODE, type Runtime } from "../helpers/runtimes.ts";

beforeAll(buildForNode, 180_000);
expectNoFdLeaks();

const PAIRS: readonly (readonly [Runtime, Runtime, count: number])[] = [
  [BUN, BUN, 1_000_000],
  [DENO, DENO, 50_000],
  [NODE, NODE, 50_000],
  [BUN, DENO, 50_000],
  [DENO, NODE, 50_000],
  [NODE, BUN, 50_000],
];

for (const [lead, follow, count] of PAIRS) {
  test(`${lead.name} and ${follow.name} hand ${count} messages over and sleep, always woken`, async () => {
    for (const seed of [1, 2]) {
      const sides = await stress([lead, follow], seed, count / 2);
      for (const { handOffs, sleeps, timeouts } of sides) {
        expect(handOffs).toBeGreaterThan(count / 2);
        expect(sleeps).toBeGreaterThan(count / 200);
        expect(timeouts).toBe(0);
      }
    }
  }, 180_000);
}

test("without the second look a wake-up is lost, and noticed", async () => {
  let timeouts = 0;
  for (let seed = 1; timeouts === 0 && seed < 40; seed += 2) {
    const sides = await stress([BUN, BUN], seed, 5_000, "blind"); // the two have to meet, which they do not in every run
    timeouts = sides.reduce((sum, side) => sum + side.timeouts, 0);
  }
  expect(timeouts).toBeGreaterThan(0);
}, 180_000);

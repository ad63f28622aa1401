import { expect, test } from "bun:test";
import { whoGivesWay } from "../../../../lib/cli/offer/giving-way.ts";

/** "a1 b2": one of host a, then one of host b. */
function chosen(words: string): string | undefined {
  const waiting = words.split(" ").filter((word) => word !== "");
  return whoGivesWay(waiting.map((word) => ({ host: word.slice(0, 1), word })))?.word;
}

test("whoGivesWay() chooses the oldest of the host with the most, of equals the oldest of all", () => {
  for (const [words, expected] of [
    ["", undefined],
    ["a1", "a1"],
    ["a1 b2 c3", "a1"],
    ["a1 b2 b3", "b2"],
    ["a1 b2 c3 b4 c5 c6", "c3"],
    ["a1 b2 b3 a4", "a1"],
    ["b1 a2 a3 b4 c5", "b1"],
  ] as const)
    expect([words, chosen(words)]).toEqual([words, expected]);
});

test("a flood of one host never pushes out another host's, a flood of hosts the oldest first", () => {
  const waiting = ["good", ...Array<string>(255).fill("flood")].map((host, index) => ({ host, index }));
  for (let index = 256; index < 1000; index++) {
    waiting.splice(waiting.indexOf(whoGivesWay(waiting) as (typeof waiting)[number]), 1);
    waiting.push({ host: "flood", index });
  }
  expect(waiting.map(({ index }) => index)).toEqual([0, ...Array.from({ length: 255 }, (_, index) => index + 745)]);
});

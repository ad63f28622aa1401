import { expect, test } from "bun:test";
import { CrowdedDestinations } from "../../../lib/wrap/connecting/crowded.ts";

test("CrowdedDestinations has one name tried for 100 ms after all were taken, and many again then", () => {
  const crowded = new CrowdedDestinations();
  expect(crowded.namesToTry("a", 1000)).toBe(64);
  crowded.note("a", 1000);
  expect([crowded.namesToTry("a", 1001), crowded.namesToTry("b", 1001)]).toEqual([1, 64]);
  crowded.note("a", 1099);
  expect(crowded.namesToTry("a", 1099)).toBe(1);
  expect(crowded.namesToTry("a", 1100)).toBe(64);
  crowded.note("a", 1101);
  expect(crowded.namesToTry("a", 1200)).toBe(1);
});

test("CrowdedDestinations remembers no more than 64 of them", () => {
  const crowded = new CrowdedDestinations();
  for (let index = 0; index < 1000; index++) crowded.note(`${index}`, 1000);
  const known = Array.from({ length: 1000 }, (_, index) => crowded.namesToTry(`${index}`, 1001) === 1);
  expect(known.filter(Boolean).length).toBeLessThanOrEqual(64);
  expect(known.at(-1)).toBe(true);
});

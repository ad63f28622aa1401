/** What `bench ring --plot` draws, from figures that are made up. */
import { expect, test } from "bun:test";
import { plotProfile } from "../../bench/plot.ts";
import { middle, percentilesOf, type Series, SIZES } from "../../bench/profile-shape.ts";

function series(name: string, placement: "two" | "one", ns: number): Series {
  const sizes = SIZES.map((size) => ({
    size,
    rttNs: { p50: ns, p99: 10 * ns, p999: 100 * ns },
    messagesPerSecond: 1e9 / ns,
  }));
  return { name, placement, sizes };
}

test("plotProfile() draws every series in its column, inside its panel, and names those it has", () => {
  const svg = plotProfile([series("shmlink on bun", "two", 300), series("C TCP loopback", "one", 90_000)]);
  expect(svg.match(/<polyline/g)).toHaveLength(6); // round trip, its p99, throughput; twice
  expect(svg.match(/<circle/g)).toHaveLength(4 * SIZES.length);
  expect(svg).toContain(">C TCP loopback</text>");
  expect(svg).not.toContain("C pipe");
  for (const [, y] of svg.matchAll(/<circle cx="[\d.]+" cy="([\d.]+)"/g)) {
    const inPanel = [84, 462].some((top) => Number(y) >= top && Number(y) <= top + 300);
    expect(inPanel).toBe(true);
  }
  expect(svg).not.toMatch(/NaN|Infinity|undefined/);
});

test("percentilesOf() and middle() take what they say", () => {
  const times = Float64Array.from({ length: 1000 }, (_, index) => 1000 - index);
  expect(percentilesOf(times)).toEqual({ p50: 501, p99: 991, p999: 1000 });
  expect(middle([5, 1, 9], (each) => each)).toBe(5);
});

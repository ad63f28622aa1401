import { expect, test } from "bun:test";
import type { Registry, Resolution } from "../../../lib/wrap/registry.ts";
import { Resolver } from "../../../lib/wrap/resolver.ts";
import { until } from "../../helpers/wrapped.ts";

/** Answers with what it is told, and counts. */
class Fake implements Registry {
  answer: Resolution | "silent" | undefined;
  asked = 0;

  resolve(): Resolution | "silent" | undefined {
    this.asked += 1;
    return this.answer;
  }

  register(): never {
    throw new Error("not here");
  }

  reportFallback(): void {}
}

test("resolve() asks once for what was found, and each time for what was not", () => {
  const registry = new Fake();
  const resolver = new Resolver(registry);
  expect([resolver.resolve("127.0.0.1", 80), resolver.resolve("127.0.0.1", 80), registry.asked]).toEqual([
    undefined,
    undefined,
    2,
  ]);
  registry.answer = { path: "/a", id: 1 };
  expect([resolver.resolve("127.0.0.1", 80)?.path, resolver.resolve("127.0.0.1", 80)?.path]).toEqual(["/a", "/a"]);
  expect(registry.asked).toBe(3);
  resolver.resolve("127.0.0.1", 81);
  expect(registry.asked).toBe(4);
});

test("untilMs() is ten times as far for the listener of the very address as for a wildcard's and for one whose path does not say", () => {
  const registry = new Fake();
  const resolver = new Resolver(registry);
  const trusted = (path: string): readonly [least: number, most: number] => {
    const startMs = performance.now();
    resolver.forget("127.0.0.1", 80);
    registry.answer = { path, id: 1 };
    resolver.resolve("127.0.0.1", 80);
    const untilMs = resolver.untilMs("127.0.0.1", 80, path) ?? Number.NaN;
    return [untilMs - performance.now(), untilMs - startMs];
  };
  expect(trusted("/a/4-127.0.0.1-80-7-1.tcp")[1]).toBeGreaterThanOrEqual(500);
  for (const path of [
    "/a/4-0.0.0.0-80-7-1.tcp",
    "/a/6-::-80-7-1.tcp",
    "/a/4-127.0.0.1-81-7-1.tcp",
    "/run/web.sock",
    "@web",
  ])
    expect(trusted(path)[0]).toBeLessThanOrEqual(50);
});

test("forget() says whether something was remembered, and lets it be asked for again", () => {
  const registry = new Fake();
  const resolver = new Resolver(registry);
  registry.answer = { path: "/a", id: 1 };
  expect(resolver.forget("127.0.0.1", 80)).toBe(false);
  resolver.resolve("127.0.0.1", 80);
  registry.answer = { path: "/b", id: 2 };
  expect(resolver.forget("127.0.0.1", 80)).toBe(true);
  expect(resolver.resolve("127.0.0.1", 80)?.path).toBe("/b");
});

test("while the registry is silent, resolve() says what was found last, however long ago, and what was not is not", async () => {
  const registry = new Fake();
  const resolver = new Resolver(registry);
  registry.answer = { path: "/a", id: 1 };
  resolver.resolve("127.0.0.1", 80);
  registry.answer = "silent";
  const asked = registry.asked;
  await until("what was found not to be trusted any more", () => {
    resolver.resolve("127.0.0.1", 80);
    return registry.asked > asked;
  });
  expect([resolver.resolve("127.0.0.1", 80)?.path, resolver.isSilent]).toEqual(["/a", true]);
  expect([resolver.resolve("127.0.0.1", 81), resolver.isSilent]).toEqual([undefined, true]);
  resolver.forget("127.0.0.1", 80);
  expect(resolver.resolve("127.0.0.1", 80)).toBeUndefined();
  registry.answer = undefined;
  expect([resolver.resolve("127.0.0.1", 80), resolver.isSilent]).toEqual([undefined, false]);
});

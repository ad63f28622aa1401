import { afterEach, beforeEach, expect, mock, spyOn, test } from "bun:test";
import type { Registry, Resolution } from "../../../lib/wrap/registry.ts";
import { Resolver } from "../../../lib/wrap/resolver.ts";

/** What performance.now() says: time goes by where a test says so, however long we are stopped. */
let nowMs = 1000;
beforeEach(() => void spyOn(performance, "now").mockImplementation(() => nowMs));
afterEach(() => mock.restore());

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
  const trustedMs = (path: string): number => {
    resolver.forget("127.0.0.1", 80);
    registry.answer = { path, id: 1 };
    resolver.resolve("127.0.0.1", 80);
    return (resolver.untilMs("127.0.0.1", 80, path) ?? Number.NaN) - nowMs;
  };
  expect(trustedMs("/a/4-127.0.0.1-80-7-1.tcp")).toBe(500);
  for (const path of [
    "/a/4-0.0.0.0-80-7-1.tcp",
    "/a/6-::-80-7-1.tcp",
    "/a/4-127.0.0.1-81-7-1.tcp",
    "/run/web.sock",
    "@web",
  ])
    expect(trustedMs(path)).toBe(50);
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

test("while the registry is silent, resolve() says what was found last, however long ago, and what was not is not", () => {
  const registry = new Fake();
  const resolver = new Resolver(registry);
  registry.answer = { path: "/a", id: 1 };
  resolver.resolve("127.0.0.1", 80);
  registry.answer = "silent";
  nowMs += 50; // what was found is not trusted any more
  expect([resolver.resolve("127.0.0.1", 80)?.path, resolver.isSilent]).toEqual(["/a", true]);
  expect([resolver.resolve("127.0.0.1", 81), resolver.isSilent]).toEqual([undefined, true]);
  resolver.forget("127.0.0.1", 80);
  expect(resolver.resolve("127.0.0.1", 80)).toBeUndefined();
  registry.answer = undefined;
  expect([resolver.resolve("127.0.0.1", 80), resolver.isSilent]).toEqual([undefined, false]);
});

import { expect, test } from "bun:test";
import type { Registry, Resolution } from "../../../lib/wrap/registry.ts";
import { Resolver } from "../../../lib/wrap/resolver.ts";

/** Answers with what it is told, and counts. */
class Fake implements Registry {
  answer: Resolution | undefined;
  asked = 0;

  resolve(): Resolution | undefined {
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

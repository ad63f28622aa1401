import { expect, test } from "bun:test";
import { matchUp } from "../../../lib/broker/offers.ts";

test("matchUp() goes through nobody who waits for what is taken already", () => {
  let asked = 0;
  function* waiting(): Generator<undefined> {
    for (;;) {
      asked += 1;
      yield;
    }
  }
  const takers = new Map([["x", { [Symbol.iterator]: waiting }]]);
  matchUp({ registry: { takers } } as never, { name: "x", bundles: [] } as never);
  expect(asked).toBe(1);
});

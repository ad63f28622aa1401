import { expect, test } from "bun:test";
import { availableParallelism } from "node:os";
import { AdaptiveSpin } from "../../../lib/channel/adaptive-spin.ts";
import { requires } from "../../helpers/requires.ts";

const MAX_US = 20_000;
const TWO_PROCESSORS = {
  installable: false,
  missing:
    availableParallelism() > 1 ? undefined : "this machine has one processor, where nobody looks before sleeping",
};

/** How long a fresh one looks, in a wait that does not pay. Not how often: that depends on what the compiler has done by then. */
function lookingMs(): number {
  const spin = new AdaptiveSpin(MAX_US);
  const start = performance.now();
  spin.run(() => false);
  return performance.now() - start;
}

requires.test(
  [TWO_PROCESSORS],
  "a new channel looks as long as the ones before have learned to, and every eighth for long",
  () => {
    const teacher = new AdaptiveSpin(MAX_US);
    for (let wait = 0; wait < 16; wait++) teacher.run(() => false);
    const times = Array.from({ length: 8 }, lookingMs).sort((a, b) => a - b);
    const [median = 0, most = 0] = [times[3], times[7]];
    expect(most).toBeGreaterThan(median * 4);
  },
);

requires.test([TWO_PROCESSORS], "channels that never wait do not take from others the wait that looks for long", () => {
  const teacher = new AdaptiveSpin(MAX_US);
  for (let wait = 0; wait < 16; wait++) teacher.run(() => false);
  const times = Array.from({ length: 8 }, () => {
    const time = lookingMs();
    new AdaptiveSpin(MAX_US);
    return time;
  });
  expect(Math.max(...times)).toBeGreaterThan(MAX_US / 2000);
});

test("what is ready at once costs one look", () => {
  let count = 0;
  expect(new AdaptiveSpin(MAX_US).run(() => ++count > 0)).toBe(true);
  expect(count).toBe(1);
});

/** An option with a value that there is not is refused, and told what there is; it spoils nothing of other channels. */
import { expect, test } from "bun:test";
import { availableParallelism } from "node:os";
import { AdaptiveSpin } from "../../../lib/channel/adaptive-spin.ts";
import { type ChannelOptions, ChannelSetup } from "../../../lib/channel/channel.ts";
import { sealRing } from "../../../lib/channel/memfd.ts";
import { rawSides } from "../../fixtures/channel/set-up.ts";
import { expectNoFdLeaks } from "../../helpers/fd-leak.ts";
import { requires } from "../../helpers/requires.ts";

expectNoFdLeaks();

const WORDS: Record<string, string> = {
  trust: '"strict" or "trusted"',
  whenFull: '"block" or "drop-new"',
  whenBehind: '"keep" or "drop-old"',
};
const NUMBERS = ["spinUs", "maxMessageBytes", "maxPeerCapacity"];
const SWITCHES = ["prefault", "hugePages", "machineCode"];

function complete(options: unknown): unknown {
  const [ours, theirs] = rawSides(4096);
  theirs.doorbell.close();
  const sealed = theirs.ring.dup();
  theirs.ring.close();
  sealRing(sealed);
  using setup = new ChannelSetup(ours.ring, ours.doorbell);
  return setup.complete(sealed, options as ChannelOptions).close();
}

const refusals: [name: string, value: unknown, wanted: string][] = [
  ...Object.entries(WORDS).flatMap(([name, wanted]) =>
    ["drop-newest", "", true, 1].map((value): [string, unknown, string] => [name, value, wanted]),
  ),
  ...NUMBERS.flatMap((name) =>
    [-5, Number.NaN, "80", true].map((value): [string, unknown, string] => [name, value, "0 or more"]),
  ),
  ["spinUs", Number.POSITIVE_INFINITY, "a finite number"],
  ...SWITCHES.flatMap((name) => ["no", 0].map((value): [string, unknown, string] => [name, value, "true or false"])),
];

test.each(refusals)("option %s is not %p", (name, value, wanted) => {
  expect(() => complete({ [name]: value })).toThrow(TypeError);
  expect(() => complete({ [name]: value })).toThrow(`option ${name}: `);
  expect(() => complete({ [name]: value })).toThrow(wanted);
});

test("what there is, and what is left out, is taken", () => {
  complete({ trust: "trusted", whenFull: "drop-new", whenBehind: "drop-old", spinUs: 0, prefault: true });
  complete({ maxMessageBytes: 0, maxPeerCapacity: Number.POSITIVE_INFINITY, hugePages: false, machineCode: false });
  complete({ trust: undefined, whenFull: undefined, spinUs: undefined, maxMessageBytes: undefined });
});

const TWO_PROCESSORS = {
  installable: false,
  missing:
    availableParallelism() > 1 ? undefined : "this machine has one processor, where nobody looks before sleeping",
};
const MOST_US = 20_000;

/** How long a new channel looks in a wait that does not pay. */
function lookingMs(): number {
  const spin = new AdaptiveSpin(MOST_US);
  const start = performance.now();
  spin.run(() => false);
  return performance.now() - start;
}

requires.test([TWO_PROCESSORS], "what a channel learns with an odd most is not what others start with", () => {
  for (const odd of [Number.NaN, 0.001]) {
    const teacher = new AdaptiveSpin(MOST_US);
    for (let wait = 0; wait < 8; wait++) {
      let count = 0;
      teacher.run(() => ++count > 100); // pays: looking for long is what others start with
    }
    const learner = new AdaptiveSpin(odd);
    for (let wait = 0; wait < 8; wait++) learner.run(() => false);
    // Twice, because every eighth looks for long whatever was learned; the first has not paid, so the next takes half.
    expect(lookingMs()).toBeGreaterThanOrEqual(MOST_US / 1000);
    expect(lookingMs()).toBeGreaterThanOrEqual(MOST_US / 2000);
  }
});

/** Every pair of runtimes exchanges messages, blocking and asynchronously, and reads at one end what was sent at the other. */
import { beforeAll, describe, expect, test } from "bun:test";
import { sealRing } from "../../lib/channel/memfd.ts";
import { closeSides, rawSides, spawnPeer } from "../fixtures/channel/set-up.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { buildForNode, RUNTIMES, type Runtime } from "../helpers/runtimes.ts";

beforeAll(buildForNode, 180_000);
expectNoFdLeaks();

const TOTAL_BYTES = "3000000";
const CAPACITY = 65536;

async function exchange(sender: Runtime, receiver: Runtime, modes: readonly [string, string]): Promise<unknown[]> {
  const sides = rawSides(CAPACITY);
  const peers = [
    spawnPeer(sender, sides[0], sides[1], "send", modes[0], TOTAL_BYTES),
    spawnPeer(receiver, sides[1], sides[0], "receive", modes[1], TOTAL_BYTES),
  ];
  await Promise.all(peers.map(({ mapped }) => mapped));
  for (const { ring } of sides) sealRing(ring);
  closeSides(sides);
  for (const { seal } of peers) seal();
  const outputs = await Promise.all(peers.map(({ output }) => output));
  return outputs.map((output) => JSON.parse(output || "null"));
}

describe.each([...RUNTIMES])("a channel from $name", (sender) => {
  test.each([...RUNTIMES])(
    "to $name carries every byte, blocking and asynchronous",
    async (receiver) => {
      for (const modes of [
        ["sync", "async"],
        ["async", "sync"],
      ] as const) {
        const [sent, received] = await exchange(sender, receiver, modes);
        expect(sent).toEqual({ sha256: expect.stringMatching(/^[0-9a-f]{64}$/) });
        expect(received).toEqual(sent);
      }
    },
    120_000,
  );
});

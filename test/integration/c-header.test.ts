/** A C program on ffi/include/shmlink.h at one end of a channel and every runtime at the other, each end in both parts. */
import { afterAll, beforeAll, describe, expect } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { OwnedFd } from "../../ffi/mod.ts";
import { RingStats, sealRing } from "../../lib/channel/memfd.ts";
import { buildCProgram, C_COMPILER } from "../fixtures/c/build.ts";
import { FORGED_RINGS, forgedRing } from "../fixtures/channel/forged.ts";
import { closeSides, type Peer, rawSides, spawnPeer } from "../fixtures/channel/set-up.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { requires } from "../helpers/requires.ts";
import { buildForNode, RUNTIMES } from "../helpers/runtimes.ts";

let directory: string;

beforeAll(() => {
  directory = mkdtempSync("/tmp/shmlink-c-");
  if (C_COMPILER.missing === undefined) buildCProgram("peer", directory);
  buildForNode();
}, 180_000);
afterAll(() => rmSync(directory, { recursive: true }));
expectNoFdLeaks();

const C: Peer = { name: "C", command: (_entry, ...args) => [join(directory, "peer"), ...args] };
const CAPACITY = 65536;
const MODES = [
  ["sync", "async"],
  ["async", "sync"],
  ["batch", "sync"],
] as const;
type Part = readonly [role: string, mode: string, number: string];

function test(name: string, body: () => Promise<void>): void {
  requires.test([C_COMPILER], name, body, 120_000);
}

type Talk = { readonly results: unknown[]; readonly wakeups: readonly number[] };

/** Both programs over one channel until both have ended. */
async function talk(peers: readonly [Peer, Peer], parts: readonly [Part, Part], capacity = CAPACITY): Promise<Talk> {
  const sides = rawSides(capacity);
  const spawned = [
    spawnPeer(peers[0], sides[0], sides[1], ...parts[0]),
    spawnPeer(peers[1], sides[1], sides[0], ...parts[1]),
  ];
  await Promise.all(spawned.map(({ mapped }) => mapped));
  const statistics = sides.map(({ ring }) => {
    sealRing(ring);
    return new RingStats(ring);
  });
  closeSides(sides);
  for (const { seal } of spawned) seal();
  const outputs = await Promise.all(spawned.map(({ output }) => output));
  const wakeups = statistics.map((ring) => ring.read().wakeups);
  for (const ring of statistics) ring.close();
  return { results: outputs.map((output) => JSON.parse(output || "null")), wakeups };
}

describe.each([...RUNTIMES, C])("a channel of C and $name", (other) => {
  const directions: (readonly [Peer, Peer])[] = other === C ? [[C, C]] : [[C, other], [other, C]]; // biome-ignore format: pairs

  for (const peers of directions) {
    const name = `${peers[0].name} to ${peers[1].name}`;
    for (const modes of MODES) {
      test(`carries messages of every size from ${name}, ${modes.join(" to ")}, then the end`, async () => {
        const parts = [
          ["send", modes[0], "3000000"],
          ["receive", modes[1], "0"],
        ] as const;
        const { results } = await talk(peers, parts);
        expect(results[0]).toEqual({ sha256: expect.stringMatching(/^[0-9a-f]{64}$/) });
        expect(results[1]).toEqual(results[0]);
      });
    }

    test(`wakes whoever sleeps: questions of ${name}, blocking and in event loops`, async () => {
      for (const mode of ["sync", "async"]) {
        const { results, wakeups } = await talk(
          peers,
          [
            ["ask", mode, "400"],
            ["answer", mode, "0"],
          ],
          4096,
        );
        expect(results).toEqual([{ answers: 400 }, { answers: 400 }]);
        for (const count of wakeups) expect(count).toBeGreaterThan(0);
      }
    });

    test(`hangs up when ${name.replace(" to", " is killed, and what it sent goes to")}`, async () => {
      for (const mode of ["sync", "async"]) expect(await outlive(peers, mode)).toEqual(SURVIVED);
    });
  }
});

const SURVIVED = ["received last words", JSON.stringify({ ended: "vanished", send: "refused" })];

/** The first sends a message and is killed by SIGKILL when the second has it. @returns the second's lines */
async function outlive(peers: readonly [Peer, Peer], mode: string): Promise<string[]> {
  const sides = rawSides(4096);
  const holder = spawnPeer(peers[0], sides[0], sides[1], "hold", mode, "0");
  const survivor = spawnPeer(peers[1], sides[1], sides[0], "outlive", mode, "0");
  survivor.child.stdout?.on("data", (chunk) => {
    if (String(chunk).includes("received")) holder.child.kill("SIGKILL");
  });
  await Promise.all([holder.mapped, survivor.mapped]);
  for (const { ring } of sides) sealRing(ring);
  closeSides(sides);
  for (const { seal } of [holder, survivor]) seal();
  await holder.output;
  return (await survivor.output).split("\n");
}

describe("the C header refuses", () => {
  for (const [name, { what, make }] of Object.entries(FORGED_RINGS)) {
    test(`${name}, and tells why`, async () => expect(await refuse(make())).toEqual({ peer: what }));
  }
  test("nothing that is right", async () => expect(await refuse(forgedRing())).toEqual({ mapped: "both" }));

  /** @param other  taken */
  async function refuse(other: OwnedFd): Promise<unknown> {
    const sides = rawSides(4096);
    const peer = spawnPeer(C, sides[0], { ...sides[1], ring: other }, "refuse");
    peer.mapped.catch(() => undefined); // it says so only once it has both
    closeSides(sides);
    other.close();
    peer.seal();
    return JSON.parse(await peer.output);
  }
});

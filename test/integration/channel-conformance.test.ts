/**
 * One suite for every pair of Bun, Deno, Node and C (on ffi/include/shmlink.h), each in both parts: messages of all sizes,
 * batches, streams, both directions at once, sleeping and waking, the end, and the death of either side.
 */
import { afterAll, beforeAll, describe, expect } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { RingStats, sealRing } from "../../lib/channel/memfd.ts";
import { buildCProgram, C_COMPILER } from "../fixtures/c/build.ts";
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

type Talk = { readonly results: unknown[]; readonly wakeups: readonly number[] };

/** Both programs over one channel until both have ended. */
async function talk(
  peers: readonly [Peer, Peer],
  parts: readonly [Part, Part],
  capacity = CAPACITY,
  otherCapacity = capacity,
): Promise<Talk> {
  const sides = rawSides(capacity, otherCapacity);
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

const HASH = { sha256: expect.stringMatching(/^[0-9a-f]{64}$/) };

function test(peers: readonly Peer[], name: string, body: () => Promise<void>): void {
  requires.test(peers.includes(C) ? [C_COMPILER] : [], name, body, 120_000);
}

/** Both sides say the same hash. */
async function expectAgreement(
  peers: readonly [Peer, Peer],
  parts: readonly [Part, Part],
  ...capacities: readonly [capacity?: number, otherCapacity?: number]
): Promise<void> {
  const { results } = await talk(peers, parts, ...capacities);
  expect(results[0]).toEqual(HASH);
  expect(results[1]).toEqual(results[0]);
}

for (const [first, from] of [...RUNTIMES, C].entries()) {
  describe(`a channel from ${from.name}`, () => {
    for (const [second, to] of [...RUNTIMES, C].entries()) pair([from, to], first + second);
  });
}

/** @param turn  which combination of modes, where one is enough for each pair */
function pair(peers: readonly [Peer, Peer], turn: number): void {
  const to = `to ${peers[1].name}`;
  const [mode, otherMode] = MODES[turn % MODES.length] ?? ["sync", "sync"];

  for (const modes of MODES) {
    test(peers, `${to} carries messages of many sizes, ${modes.join(" to ")}, then the end`, async () => {
      await expectAgreement(peers, [
        ["send", modes[0], "3000000"],
        ["receive", modes[1], "0"],
      ]);
    });
  }

  test(peers, `${to} carries every size around alignment, record and ring, wherever the ring ends`, async () => {
    await expectAgreement(
      peers,
      [
        ["edges", mode, "0"],
        ["receive", otherMode, "0"],
      ],
      4096,
    );
  });

  test(
    peers,
    `${to} carries messages one way where the other way has no ring, and nothing can be sent on it`,
    async () => {
      await expectAgreement(
        peers,
        [
          ["send", mode, "500000"],
          ["receive", otherMode, "0"],
        ],
        4096,
        0,
      );
    },
  );

  test(peers, `${to} carries bytes without boundaries, in place, blocking and as streams`, async () => {
    for (const [write, read] of [
      [mode, "batch"],
      ["batch", otherMode],
    ] as const) {
      await expectAgreement(
        peers,
        [
          ["write", write, "400000"],
          ["read", read, "0"],
        ],
        4096,
      );
    }
  });

  test(peers, `${to} carries both directions at once while both rings are full`, async () => {
    for (const modes of [
      ["sync", "async"],
      ["async", "sync"],
    ] as const) {
      await expectAgreement(
        peers,
        [
          ["duplex", modes[0], "2000"],
          ["duplex", modes[1], "2000"],
        ],
        4096,
      );
    }
  });

  test(peers, `${to} wakes whoever sleeps, blocking and in event loops`, async () => {
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

  test(peers, `hangs up when it is killed, and what it sent goes ${to}`, async () => {
    for (const mode of ["sync", "async"]) expect(await outlive(peers, "hold", mode)).toEqual(SURVIVED);
  });

  // In C a message is sent in one call, and nothing comes between.
  if (peers[0].name !== "C") {
    test(peers, `breaks off in the midst of a message, of which nothing goes ${to}`, async () => {
      for (const mode of ["sync", "async"]) {
        const [received, end = ""] = await outlive(peers, "break-off", mode);
        expect(received).toBe(SURVIVED[0]);
        expect(JSON.parse(end)).toMatchObject({ ended: "vanished" }); // before it hangs up, or after
      }
    });
  }
}

const SURVIVED = ["received last words", JSON.stringify({ ended: "vanished", send: "refused" })];

/** The first sends a message and is killed by SIGKILL when the second has it, if it has not gone by then. @returns the second's lines */
async function outlive(peers: readonly [Peer, Peer], role: "hold" | "break-off", mode: string): Promise<string[]> {
  const sides = rawSides(4096);
  const holder = spawnPeer(peers[0], sides[0], sides[1], role, mode, "0");
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

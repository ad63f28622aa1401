/** Files that are no ring of a channel, a message that has no end, and what a C program on ffi/include/shmlink.h says to them. */
import { afterAll, beforeAll, describe, expect } from "bun:test";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { OwnedFd } from "../../ffi/mod.ts";
import { sealRing } from "../../lib/channel/memfd.ts";
import { buildCProgram, C_COMPILER } from "../fixtures/c/build.ts";
import { FORGED_RINGS, forgedRing } from "../fixtures/channel/forged.ts";
import { closeSides, type Peer, rawSides, spawnPeer } from "../fixtures/channel/set-up.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { requires } from "../helpers/requires.ts";

let directory: string;

beforeAll(() => {
  directory = mkdtempSync("/tmp/shmlink-c-");
  if (C_COMPILER.missing === undefined) for (const name of ["peer", "endless", "alone"]) buildCProgram(name, directory);
}, 60_000);
afterAll(() => rmSync(directory, { recursive: true }));
expectNoFdLeaks();

const program = (name: string): Peer => ({ name: "C", command: (_entry, ...args) => [join(directory, name), ...args] });
const C = program("peer");
const AGAIN = -1;
const SYSTEM = -8;

function test(name: string, body: () => Promise<void>): void {
  requires.test([C_COMPILER], name, body, 120_000);
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

test("the C header takes no more time for a message without an end than it was given", async () => {
  const sides = rawSides(4096);
  const peer = spawnPeer(program("endless"), sides[0], sides[1]);
  await peer.mapped;
  for (const { ring } of sides) sealRing(ring);
  closeSides(sides);
  peer.seal();
  expect(JSON.parse(await peer.output)).toEqual({ atOnce: AGAIN, taken: 4096, inTime: AGAIN });
});

test("the C header leaves no mapping of a ring that it refuses, and nothing comes between the records of a message", async () => {
  const said = execFileSync(join(directory, "alone"), { encoding: "utf8" });
  const refused = { sealed: SYSTEM, left: 0 };
  expect(JSON.parse(said)).toEqual({ ...refused, sent: AGAIN, between: false, whole: true, after: true, mapped: 0 });
});

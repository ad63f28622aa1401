/**
 * A hostile C program at one end of a channel; every runtime, and a C program on our header, at the other. Whatever it does,
 * the survivor ends with an error of ours or with an end, has received what was published, and keeps no descriptor and no
 * mapping of the channel: it says so itself, or hangs, and then its test does too.
 */
import { afterAll, beforeAll, describe, expect } from "bun:test";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { RingStats, sealRing } from "../../lib/channel/memfd.ts";
import { buildCProgram, C_COMPILER } from "../fixtures/c/build.ts";
import { closeSides, type Peer, type PeerProcess, rawSides, spawnPeer } from "../fixtures/channel/set-up.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { requires } from "../helpers/requires.ts";
import { buildForNode, RUNTIMES } from "../helpers/runtimes.ts";

let directory: string;

beforeAll(() => {
  directory = mkdtempSync("/tmp/shmlink-c-");
  if (C_COMPILER.missing === undefined) for (const name of ["peer", "hostile"]) buildCProgram(name, directory);
  buildForNode();
}, 180_000);
afterAll(() => rmSync(directory, { recursive: true }));
expectNoFdLeaks();

const program = (name: string): Peer => ({ name: "C", command: (_entry, ...args) => [join(directory, name), ...args] });
const [C, HOSTILE] = [program("peer"), program("hostile")];
const MODES = ["sync", "async"] as const;

type Report = {
  readonly outcome: string;
  readonly kind?: string;
  readonly received: number;
  readonly refused: boolean;
  readonly ticks: number;
  readonly mappings?: number;
};
type Fight = { readonly hostile: PeerProcess; readonly survivor: PeerProcess; readonly rings: readonly RingStats[] };
/** Bytes that the hostile side published and that the survivor never got to. */
type Outcome = Report & { readonly unread: number };

/** @param meanwhile  called when both have begun */
async function fight(
  survivor: Peer,
  mode: string,
  attack: readonly string[],
  meanwhile: (fight: Fight) => Promise<void> = async () => undefined,
): Promise<Outcome> {
  const sides = rawSides(4096);
  const victim = spawnPeer(survivor, sides[0], sides[1], "survive", mode, "0");
  const hostile = spawnPeer(HOSTILE, sides[1], sides[0], ...attack);
  await Promise.all([victim.mapped, hostile.mapped]);
  const rings = sides.map(({ ring }) => {
    sealRing(ring);
    return new RingStats(ring);
  });
  closeSides(sides);
  for (const { seal } of [victim, hostile]) seal();
  await meanwhile({ hostile, survivor: victim, rings });
  const report: Report = JSON.parse((await victim.output) || "null");
  await hostile.output;
  expect(victim.child.exitCode).toBe(0);
  expect(report.mappings ?? 0).toBe(0);
  const [ours, theirs] = rings.map((ring) => ring.read());
  for (const ring of rings) ring.close();
  return { ...report, unread: (theirs?.tail ?? 0) - (ours?.head ?? 0) };
}

/** Waits until `child` sleeps and has used no processor time for a while: a side that spins never gets there. */
async function quiet(child: PeerProcess["child"]): Promise<void> {
  let before = "";
  for (let same = 0; same < 5; ) {
    const fields = readFileSync(`/proc/${child.pid}/stat`, "latin1").split(") ")[1]?.split(" ") ?? [];
    const now = `${fields[0]} ${fields[11]} ${fields[12]}`; // state, user and system time
    same = now === before && now.startsWith("S") ? same + 1 : 0;
    before = now;
    await Bun.sleep(20);
  }
}

/** Waits until the hostile program has done its worst. */
async function worst({ child }: PeerProcess): Promise<void> {
  for (;;) {
    const [chunk] = await once(child.stdout as NonNullable<typeof child.stdout>, "data");
    if (String(chunk).includes("now")) return;
  }
}

function test(name: string, body: () => Promise<void>): void {
  requires.test([C_COMPILER], name, body, 120_000);
}

const LIES = [
  "tail beyond the capacity",
  "tail not aligned",
  "tail moving backwards",
  "tail far away",
  "tail half the numbers away",
  "head beyond the tail",
  "head not aligned",
  "head moving backwards",
  "length 0xffffffff",
  "length 0x80000000",
  "length 0x10040",
  "length above what is published",
  "length above half the ring",
  "length across the end",
  "flags 0",
  "flags unknown",
  "flags of an end without a start",
  "flags of a start inside a message",
  "message-size without an end",
];

/** Where the header lets a program die. */
const STEPS = [
  "reserved",
  "copied",
  "before-tail",
  "after-tail",
  "after-ring",
  "space-armed",
  "before-data-armed",
  "data-armed",
  "released",
  "before-head",
  "after-head",
];

describe.each([...RUNTIMES, C])("$name survives a peer", (survivor) => {
  for (const [index, lie] of LIES.entries()) {
    test(`that lies: ${lie}`, async () => {
      const { outcome, kind } = await fight(survivor, MODES[index % 2] ?? "sync", [lie]);
      expect({ outcome, kind }).toEqual({ outcome: "ProtocolError", kind: lie.split(" ")[0] ?? "" });
    });
  }

  test("that pads in the midst of the ring", async () => {
    const { outcome, kind } = await fight(survivor, "sync", ["flags of a pad that is not at the end"]);
    expect({ outcome, kind }).toEqual({ outcome: "ProtocolError", kind: "length" });
  });

  const attacks = ["scribble", "scribble data", "scribble wake words", "flip", "flip flags", "flip positions"];
  for (const [index, attack] of attacks.entries()) {
    test(`in the midst of an attack: ${attack}`, async () => {
      for (const seed of ["1", "2", "3"]) {
        const { outcome, refused } = await fight(survivor, MODES[(index + Number(seed)) % 2] ?? "sync", [attack, seed]);
        const ended = refused ? ["vanished", "finished"] : [];
        expect(["ProtocolError", "finished", ...ended]).toContain(outcome);
      }
    });
  }

  for (const mode of MODES) {
    test(`that floods the doorbell, ${mode}: the conversation goes on, and so does the event loop`, async () => {
      const { outcome, received, ticks, unread } = await fight(survivor, mode, ["flood"]);
      expect({ outcome, received, unread }).toEqual({ outcome: "finished", received: 301, unread: 0 });
      if (mode === "async") expect(ticks).toBeGreaterThan(0);
    });

    test(`that makes the doorbell blocking, fills it and never reads it, ${mode}`, async () => {
      const { outcome, received } = await fight(survivor, mode, ["deaf"]);
      expect({ outcome, received }).toEqual({ outcome: "finished", received: 2001 });
    });

    test(`that never rings, ${mode}: it sleeps, and reads what was published when the peer is gone`, async () => {
      const { outcome, received, unread } = await fight(survivor, mode, ["mute"], async ({ hostile, survivor }) => {
        await worst(hostile);
        await quiet(survivor.child);
        hostile.child.kill("SIGKILL");
      });
      expect({ outcome, received, unread }).toEqual({ outcome: "vanished", received: 6, unread: 0 });
    });

    test(`that never reads, ${mode}: it sleeps until the peer is gone`, async () => {
      const { outcome, refused, unread } = await fight(
        survivor,
        mode,
        ["never read"],
        async ({ hostile, survivor }) => {
          await worst(hostile);
          await quiet(survivor.child);
          hostile.child.kill("SIGKILL");
        },
      );
      expect({ outcome, refused, unread }).toEqual({ outcome: "vanished", refused: true, unread: 0 });
    });

    test(`that is stopped, ${mode}: it waits, and goes on afterwards`, async () => {
      const { outcome, unread } = await fight(survivor, mode, ["chat"], async ({ hostile, survivor, rings }) => {
        const sent = (): number => rings[1]?.read().messages ?? 0;
        while (sent() < 100) await Bun.sleep(1);
        hostile.child.kill("SIGSTOP");
        await quiet(survivor.child);
        const before = sent();
        hostile.child.kill("SIGCONT");
        while (sent() === before) await Bun.sleep(1);
        hostile.child.kill("SIGTERM");
      });
      expect({ outcome, unread }).toEqual({ outcome: "finished", unread: 0 });
    });

    test(`that is killed while stopped, ${mode}`, async () => {
      const { outcome, unread } = await fight(survivor, mode, ["chat"], async ({ hostile, survivor, rings }) => {
        while ((rings[1]?.read().messages ?? 0) < 100) await Bun.sleep(1);
        hostile.child.kill("SIGSTOP");
        await quiet(survivor.child);
        hostile.child.kill("SIGKILL");
      });
      expect({ outcome, unread }).toEqual({ outcome: "vanished", unread: 0 });
    });
  }

  for (const [index, step] of STEPS.entries()) {
    test(`that is killed at the step "${step}": nothing that was published is lost`, async () => {
      const { outcome, received, unread } = await fight(survivor, MODES[index % 2] ?? "sync", ["burst", step]);
      expect({ outcome, unread }).toEqual({ outcome: "vanished", unread: 0 });
      expect(received).toBeGreaterThan(0);
    });
  }

  for (const [step, outcome] of [
    ["before-state", "vanished"],
    ["after-state", "finished"],
  ] as const) {
    test(`that is killed at the step "${step}": ${outcome}`, async () => {
      expect(await fight(survivor, "sync", ["end", step])).toMatchObject({ outcome, received: 1, unread: 0 });
    });
  }
});

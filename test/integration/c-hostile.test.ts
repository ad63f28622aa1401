/**
 * A hostile C program at one end of a channel; every runtime, and a C program on our header, at the other. Whatever it does,
 * the survivor ends with an error of ours or with an end, has received what was published, and keeps no descriptor and no
 * mapping of the channel: it says so itself, or hangs, and then its test does too.
 *
 * That the attack came to pass is looked at as well: by how the hostile program ended, and by what it says it did.
 */
import { afterAll, beforeAll, describe, expect } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { buildCProgram, C_COMPILER } from "../fixtures/c/build.ts";
import { type Fight, fightAll, type Mode, type Outcome, worst } from "../fixtures/channel/fights.ts";
import type { Peer } from "../fixtures/channel/set-up.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { processorTime, quiet, sleepOf } from "../helpers/process-state.ts";
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
const SURVIVORS: readonly Peer[] = [
  ...RUNTIMES.map(({ name, command }) => ({
    name,
    command: (_entry: string, ...args: readonly string[]) => command("test/fixtures/channel/survivor.ts", ...args),
  })),
  C,
];

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
  "length 0 in a part",
  "length 0 in a first part",
  "length of a pad that is not at the end",
  "flags 0",
  "flags unknown",
  "flags of an end without a start",
  "flags of a start inside a message",
  "message-size without an end",
];

const SEEDS = ["1", "2", "3", "4"];
/** What is written at random, or back and forth: it has to be caught with some seeds, and need not be with all. */
const RANDOM = ["scribble", "scribble data", "flip", "flip flags", "flip positions"];

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
const LAST_STEPS = { "before-state": "vanished", "after-state": "finished" } as const;

/** One byte may have rung that was not needed any more, then comes the one that counts. */
const WAKES = 2;
/** So many for nothing there may be before the doorbell is left alone for 16 ms each time. */
const FREE_WAKES = 40;

describe.each([...SURVIVORS])("$name survives a peer", (survivor) => {
  for (const mode of ["sync", "async"] as const) suite(survivor, mode);
  if (survivor !== C) suite(survivor, "any");
});

function suite(survivor: Peer, mode: Mode): void {
  const fighters = { survivor, hostile: HOSTILE, mode };
  const isC = survivor === C;

  /** @param meanwhile  called when both have begun */
  async function fight(
    attack: string,
    meanwhile?: (fight: Fight) => Promise<void>,
    ...more: readonly string[]
  ): Promise<Outcome> {
    const [outcome] = await fightAll(fighters, [[attack]], meanwhile, ...more);
    return expectClean(outcome as Outcome);
  }

  /** All of a kind are fought when the first test of it asks. */
  function group(attacks: readonly (readonly string[])[]): (index: number) => Promise<Outcome> {
    let fought: Promise<Outcome[]> | undefined;
    return async (index) => {
      fought ??= fightAll(fighters, attacks);
      return expectClean((await fought)[index] as Outcome);
    };
  }

  function expectClean(outcome: Outcome): Outcome {
    expect(outcome.survivorExit).toBe(0);
    expect(outcome.mappings ?? 0).toBe(0);
    return outcome;
  }

  /** It was told by the event, at once: not by looking from time to time, and not because a time was up. */
  function expectToldByEvent({ mostWakes = 0, timers = 0 }: Outcome): void {
    expect(mostWakes).toBeLessThanOrEqual(WAKES);
    expect(timers).toBe(0);
  }

  /** Asleep, and nothing but an event will end that. A runtime's own loop may have set a time for itself, to collect garbage. */
  async function asleep({ survivor }: Fight): Promise<void> {
    const pid = survivor.child.pid as number;
    await quiet(pid);
    const sleep = sleepOf(pid);
    if (sleep !== undefined && (mode === "sync" || isC)) expect(sleep).toEqual({ name: sleep.name, endless: true });
  }

  const random = group(RANDOM.flatMap((attack) => SEEDS.map((seed) => [attack, seed])));
  for (const [index, attack] of RANDOM.entries()) {
    test(`in the midst of an attack, ${mode}: ${attack}`, async () => {
      const all = await Promise.all(SEEDS.map((_, at) => random(index * SEEDS.length + at)));
      for (const { outcome, refused, hostileExit, foul } of all) {
        expect(hostileExit).toBe(0);
        expect(foul).toBeGreaterThan(0);
        expect(["ProtocolError", "finished", ...(refused ? ["vanished"] : [])]).toContain(outcome);
      }
      const caught = all.filter(({ outcome }) => outcome === "ProtocolError").length;
      console.log(`${survivor.name}, ${mode}: ${attack} was caught with ${caught} of ${SEEDS.length} seeds`);
      expect(caught).toBeGreaterThan(0);
    });
  }

  if (mode === "any") return; // the rest is about what is received, and when

  const lies = group(LIES.map((lie) => [lie]));
  for (const [index, lie] of LIES.entries()) {
    test(`that lies, ${mode}: ${lie}`, async () => {
      const { outcome, kind, hostileExit, foul } = await lies(index);
      expect({ outcome, kind, hostileExit }).toEqual({
        outcome: "ProtocolError",
        kind: lie.split(" ")[0] ?? "",
        hostileExit: 0,
      });
      expect(foul).toBeGreaterThan(0);
    });
  }

  test(`that scribbles over what it is woken by, ${mode}: the conversation goes on`, async () => {
    const { outcome, received, foul, hostileExit } = await fight("scribble wake words");
    expect({ outcome, hostileExit }).toEqual({ outcome: "finished", hostileExit: 0 });
    expect(foul).toBe(4 * 3000 + 1);
    expect(received).toBeGreaterThan(1000);
  });

  test(`that floods the doorbell, ${mode}: the conversation goes on, and so does the event loop`, async () => {
    const { outcome, received, ticks, unread, foul, hostileExit } = await fight("flood", undefined, "ticking");
    expect({ outcome, received, unread, hostileExit }).toEqual({
      outcome: "finished",
      received: 301,
      unread: 0,
      hostileExit: 0,
    });
    expect(foul).toBeGreaterThan(301);
    if (mode === "async") expect(ticks).toBeGreaterThan(0);
  });

  for (const attack of ["flood idle", "scribble idle"]) {
    test(`that has nothing to say, ${mode}: ${attack} costs it a processor, and the survivor next to nothing`, async () => {
      let [ours, theirs] = [0, 0];
      const start = performance.now();
      const {
        outcome,
        received,
        mostWakes = 0,
      } = await fight(attack, async ({ hostile, survivor }) => {
        await worst(hostile);
        [ours, theirs] = await spend(survivor.child.pid as number, hostile.child.pid as number);
        hostile.child.kill("SIGKILL");
      });
      const longestRests = (performance.now() - start) / 16;
      expect({ outcome, received }).toEqual({ outcome: "vanished", received: 1 });
      expect(theirs).toBeGreaterThan(5e8);
      expect(mostWakes).toBeLessThanOrEqual(FREE_WAKES + longestRests); // the C program does not count them
      expect(ours).toBeLessThan(theirs / 2); // it works for as long as they rest, which on a busy machine takes longer
    });
  }

  test(`that makes the doorbell blocking, fills it and never reads it, ${mode}`, async () => {
    const { outcome, received, hostileExit, foul, own } = await fight("deaf");
    expect({ outcome, received, hostileExit }).toEqual({ outcome: "finished", received: 2001, hostileExit: 0 });
    expect(foul).toBeGreaterThan(2000);
    expect(own.wakeups + own.spaceWakeups).toBeLessThanOrEqual(2 * received); // a system call each, in vain
  });

  test(`that never rings, ${mode}: it sleeps, and reads what was published when the peer is gone`, async () => {
    const fought = await fight("mute", async (fight) => {
      await worst(fight.hostile);
      await asleep(fight);
      fight.hostile.child.kill("SIGKILL");
    });
    expect(fought).toMatchObject({ outcome: "vanished", received: 6, unread: 0 });
    expectToldByEvent(fought);
  });

  test(`that never reads, ${mode}: it sleeps until the peer is gone`, async () => {
    const fought = await fight("never read", async (fight) => {
      await worst(fight.hostile);
      await asleep(fight);
      fight.hostile.child.kill("SIGKILL");
    });
    expect(fought).toMatchObject({ outcome: "vanished", refused: true, unread: 0 });
    expectToldByEvent(fought);
  });

  test(`that is stopped, ${mode}: it waits, and goes on afterwards`, async () => {
    const fought = await fight("chat", async (fight) => {
      const sent = (): number => fight.rings[1].read().messages;
      while (sent() < 100) await Bun.sleep(1);
      fight.hostile.child.kill("SIGSTOP");
      await asleep(fight);
      const before = sent();
      fight.hostile.child.kill("SIGCONT");
      while (sent() === before) await Bun.sleep(1);
      fight.hostile.child.kill("SIGTERM");
    });
    expect(fought).toMatchObject({ outcome: "finished", unread: 0, hostileExit: 0 });
    expectToldByEvent(fought);
  });

  test(`that is killed while stopped, ${mode}`, async () => {
    const fought = await fight("chat", async (fight) => {
      while (fight.rings[1].read().messages < 100) await Bun.sleep(1);
      fight.hostile.child.kill("SIGSTOP");
      await asleep(fight);
      fight.hostile.child.kill("SIGKILL");
    });
    expect(fought).toMatchObject({ outcome: "vanished", unread: 0, hostileExit: "SIGKILL" });
    expectToldByEvent(fought);
  });

  test(`that dies and is not waited for, ${mode}: a zombie is no peer`, async () => {
    let zombie = "";
    const fought = await fight("zombie", async ({ hostile, survivor }) => {
      const pid = await worst(hostile);
      await survivor.output;
      const state = (): string => readFileSync(`/proc/${pid}/stat`, "latin1").split(") ")[1]?.[0] ?? "";
      do zombie = state();
      while (zombie !== "Z" && zombie !== "S"); // who dies hangs up a little before there is nothing more to do
      hostile.child.kill("SIGKILL");
    });
    expect(fought).toMatchObject({ outcome: "vanished", received: 21, unread: 0 });
    expect(zombie).toBe("Z");
    expectToldByEvent(fought);
  });

  test(`that wants to give its ring another shape, ${mode}: it cannot, in any way`, async () => {
    const { outcome, received, foul, hostileExit } = await fight("reshape");
    expect({ outcome, received, foul, hostileExit }).toEqual({
      outcome: "finished",
      received: 21,
      foul: 0,
      hostileExit: 0,
    });
  });

  test(`that sends descriptors with its rings, ${mode}: none of them arrives`, async () => {
    const { outcome, received, foul, hostileExit } = await fight("descriptors");
    expect({ outcome, received, hostileExit }).toEqual({ outcome: "finished", received: 201, hostileExit: 0 });
    expect(foul).toBeGreaterThan(100);
  });

  const deaths = group([
    ...STEPS.map((step) => ["burst", step]),
    ...Object.keys(LAST_STEPS).map((step) => ["end", step]),
  ]);
  for (const [index, step] of STEPS.entries()) {
    test(`that is killed at the step "${step}", ${mode}: nothing that was published is lost`, async () => {
      const fought = await deaths(index);
      expect(fought).toMatchObject({ outcome: "vanished", unread: 0, hostileExit: "SIGKILL" });
      expect(fought.received).toBeGreaterThan(0);
      expectToldByEvent(fought);
    });
  }
  for (const [index, [step, outcome]] of Object.entries(LAST_STEPS).entries()) {
    test(`that is killed at the step "${step}", ${mode}: ${outcome}`, async () => {
      const fought = await deaths(STEPS.length + index);
      expect(fought).toMatchObject({ outcome, received: 1, unread: 0, hostileExit: "SIGKILL" });
      expectToldByEvent(fought);
    });
  }

  test(`that is killed, ${mode}: what the counts of wake-ups and timers are worth`, async () => {
    const { mostWakes = 0, timers = 0 } = await fight("flood idle", async ({ hostile, survivor }) => {
      await worst(hostile);
      await spend(survivor.child.pid as number, hostile.child.pid as number); // a time would not tell that it has flooded
      hostile.child.kill("SIGKILL");
    });
    if (isC) return;
    expect(mostWakes).toBeGreaterThan(WAKES);
    if (mode === "async") expect(timers).toBeGreaterThan(0);
  });
}

/** @returns nanoseconds that either spends until the second has spent enough to tell */
async function spend(ours: number, theirs: number): Promise<[number, number]> {
  const [oursBefore, theirsBefore] = [processorTime(ours), processorTime(theirs)];
  while (processorTime(theirs) - theirsBefore < 6e8) await Bun.sleep(20);
  return [processorTime(ours) - oursBefore, processorTime(theirs) - theirsBefore];
}

/**
 * One runtime's figures over sizes, as JSON on standard output: percentiles of round trips, messages a second strict and
 * trusted, the first message of two cold programs, wake-ups saved, and how soon a death is noticed.
 *
 * profile-side.ts RUNTIME two|one       on two processors, looking before sleeping; or both on one, asleep at once
 */
import { pinToCpu } from "../ffi/mod.ts";
import { DEFAULT_SPIN_US } from "../lib/channel/adaptive-spin.ts";
import type { Channel } from "../lib/channel/channel.ts";
import { RUNTIMES } from "../test/helpers/runtimes.ts";
import { awaitView } from "./in-place.ts";
import { type Pair, startPair } from "./pair.ts";
import type { Command } from "./peer.ts";
import { CPUS } from "./processors.ts";
import {
  capacityFor,
  countFor,
  middle,
  type Percentiles,
  percentilesOf,
  SIZES,
  type SideProfile,
} from "./profile-shape.ts";

const [name = "", placement = "two"] = process.argv.slice(2);
const runtime = RUNTIMES.find((each) => each.name === name);
if (runtime === undefined) throw new Error(`Cannot measure on "${name}"`);
const RUNTIME = runtime;
const spinUs = placement === "one" ? 0 : DEFAULT_SPIN_US;
const ROUNDS = 3;
const SINGLE_ROUNDS = 5; // of what a program does once

function command(channel: Channel, what: Command): void {
  channel.send(new TextEncoder().encode(JSON.stringify(what)));
}

/** Nanoseconds of each round trip. */
function roundTrips(channel: Channel, size: number, count: number): Percentiles {
  const bytes = new Uint8Array(size);
  const times = new Float64Array(count);
  command(channel, { kind: "echo", size, count });
  for (let index = 0; index < count; index++) {
    const start = performance.now();
    channel.send(bytes);
    channel.receiveInto(bytes);
    times[index] = (performance.now() - start) * 1e6;
  }
  return percentilesOf(times);
}

/** The same, read in place at both sides. */
function roundTripsInPlace(channel: Channel, size: number, count: number): Percentiles {
  const bytes = new Uint8Array(size);
  const times = new Float64Array(count);
  command(channel, { kind: "echo-in-place", size, count });
  for (let index = 0; index < count; index++) {
    const start = performance.now();
    channel.send(bytes);
    awaitView(channel, spinUs);
    channel.release();
    times[index] = (performance.now() - start) * 1e6;
  }
  return percentilesOf(times);
}

function messagesPerSecond(channel: Channel, kind: "sink" | "read", size: number, count: number): number {
  const bytes = new Uint8Array(size);
  command(channel, { kind, size, count });
  const start = performance.now();
  for (let index = 0; index < count; index++) channel.send(bytes);
  channel.receive();
  return Math.round((count * 1000) / (performance.now() - start));
}

/** Microseconds from the first send to its answer, in two programs that have never sent anything. */
async function coldFirstMessage(): Promise<number> {
  const times: number[] = [];
  for (let round = 0; round < SINGLE_ROUNDS; round++) {
    const pair = await startPair({ capacity: 1 << 16, runtime: RUNTIME, end: { spinUs } });
    const bytes = new Uint8Array(64);
    const start = performance.now();
    command(pair.channel, { kind: "echo", size: 64, count: 1 });
    pair.channel.send(bytes);
    pair.channel.receiveInto(bytes);
    times.push((performance.now() - start) * 1000);
    await pair.stop();
  }
  return Math.round(middle(times, (time) => time));
}

/** Microseconds from SIGKILL to the end of a blocked receive. */
async function deathNoticed(): Promise<number> {
  const times: number[] = [];
  for (let round = 0; round < SINGLE_ROUNDS; round++) {
    const pair = await startPair({ capacity: 1 << 16, runtime: RUNTIME, end: { spinUs } });
    const start = performance.now();
    pair.kill();
    pair.channel.receive();
    times.push((performance.now() - start) * 1000);
    await pair.stop();
  }
  return Math.round(middle(times, (time) => time));
}

type Pairs = ReadonlyMap<string, Pair>;

function pairFor(pairs: Pairs, trust: "strict" | "trusted", size: number): Pair {
  const pair = pairs.get(`${trust} ${capacityFor(size)}`);
  if (pair === undefined) throw new TypeError(`No channel was made for messages of "${size}" bytes`);
  return pair;
}

function measureSize(pairs: Pairs, size: number): SideProfile["sizes"][number] {
  const [few, many] = [countFor(size, "rtt", placement), countFor(size, "throughput", placement)];
  const { channel } = pairFor(pairs, "strict", size);
  const trusted = pairFor(pairs, "trusted", size).channel;
  const rounds = Array.from({ length: ROUNDS }, () => ({
    rttNs: roundTrips(channel, size, few),
    trustedRttNs: roundTripsInPlace(trusted, size, few),
    strict: messagesPerSecond(channel, "sink", size, many),
    trusted: messagesPerSecond(trusted, "read", size, many),
  }));
  return {
    size,
    rttNs: middle(rounds, ({ rttNs }) => rttNs.p50).rttNs,
    trustedRttNs: middle(rounds, ({ trustedRttNs }) => trustedRttNs.p50).trustedRttNs,
    messagesPerSecond: middle(rounds, (each) => each.strict).strict,
    trustedMessagesPerSecond: middle(rounds, (each) => each.trusted).trusted,
  };
}

function shareOfWakeupsSaved({ channel, stats }: Pair): number {
  const before = stats.read();
  messagesPerSecond(channel, "sink", 64, countFor(64, "throughput", placement));
  const after = stats.read();
  return 1 - (after.wakeups - before.wakeups) / (after.messages - before.messages);
}

/** All channels are made, and every size is sent once for the compiler, before anybody is pinned to a processor: a thread
 *  inherits its maker's processors, and a compiler's thread where a ring spins would be measured as the ring. */
async function profile(): Promise<SideProfile> {
  const coldUs = await coldFirstMessage();
  const deathUs = await deathNoticed();
  const pairs = new Map<string, Pair>();
  for (const trust of ["strict", "trusted"] as const) {
    for (const capacity of new Set(SIZES.map(capacityFor)))
      pairs.set(`${trust} ${capacity}`, await startPair({ capacity, runtime: RUNTIME, end: { spinUs, trust } }));
  }
  try {
    for (const size of SIZES) measureSize(pairs, size);
    const processor = CPUS[placement === "one" ? 0 : 1];
    for (const { channel } of pairs.values()) command(channel, { kind: "pin", size: processor, count: 0 });
    pinToCpu(CPUS[0]);
    const sizes = SIZES.map((size) => measureSize(pairs, size));
    const saved = shareOfWakeupsSaved(pairFor(pairs, "strict", 64));
    return { coldUs, deathUs, wakeupsSaved: Math.round(saved * 1e4) / 1e4, sizes };
  } finally {
    for (const pair of pairs.values()) await pair.stop();
  }
}

console.log(JSON.stringify(await profile()));

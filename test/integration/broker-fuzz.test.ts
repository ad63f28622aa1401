/**
 * Peers that send well-formed, half-formed and ill-formed requests in any order, with any descriptors, to a broker in this
 * process. Whatever they do it answers or disconnects them: nothing is thrown out of its loop, and when they have gone,
 * no record, no charge and no descriptor is left. A failure prints its seed, which belongs into the corpus then.
 *
 * SHMLINK_FUZZ_MESSAGES says how many messages; SHMLINK_FUZZ_SEED makes it one sequence, for finding what a seed does.
 */
import { expect, test } from "bun:test";
import { mkdirSync, readFileSync, unlinkSync } from "node:fs";
import { join } from "node:path";
import { bind, constants, listen, socket, socketpair, unixAddress } from "../../ffi/mod.ts";
import { Broker } from "../../lib/broker/broker.ts";
import { builtInConfig, type ShmlinkConfig } from "../../lib/config/schema.ts";
import { OPERATIONS, type Rule } from "../../lib/policy/types.ts";
import { INTERFACES } from "../../lib/protocol/shmlink-v1.gen.ts";
import { Fuzz, type Turns } from "../helpers/fuzz/fuzz.ts";
import { OwnTime } from "../helpers/fuzz/own-time.ts";
import { Pool } from "../helpers/fuzz/pool.ts";
import { Random } from "../helpers/fuzz/random.ts";
import { Reached } from "../helpers/fuzz/reached.ts";
import { openFds } from "../helpers/open-fds.ts";
import { makeRuntimeDir } from "../helpers/runtime-dir.ts";

const MESSAGES = Number(process.env["SHMLINK_FUZZ_MESSAGES"] ?? 60_000);
/** So many times as many, until everything was reached. */
const MOST = 8;
const CORPUS = JSON.parse(readFileSync(join(import.meta.dirname, "../fixtures/fuzz-seeds.json"), "utf8")) as number[];

/** Of quotas. What waits for who does not read is above its limit after more than a sequence: broker-hostile.test.ts. */
const LIMITS = [
  "maxSessionsPerUser",
  "maxServicesPerUser",
  "maxChannelsPerUser",
  "maxListenersPerUser",
  "maxSharedBytesPerUser",
  "maxFdsPerUser",
  "maxObjectsPerUser",
  "maxContextsPerUser",
] as const;

/** Who comes through a context may do everything, too. */
const INSIDE: readonly Rule[] = [
  { name: "inside", effect: "allow", where: "test", criteria: { engine: ["*"], action: [...OPERATIONS] } },
  {
    name: "inside-fds",
    effect: "allow",
    where: "test",
    criteria: { engine: ["*"], action: [...OPERATIONS], fd: ["*"] },
  },
];

const CONFIG: ShmlinkConfig = {
  ...builtInConfig,
  rules: [...builtInConfig.rules, ...INSIDE],
  limits: {
    ...builtInConfig.limits,
    maxMessagesPerSecond: 2 ** 24,
    maxSharedBytesPerUser: 2 ** 26,
    maxFdsPerUser: 200,
  },
};

/** One where everything runs out, time too: what is refused, given up or thrown out has to be given back as well. */
const TIGHT: ShmlinkConfig = {
  ...CONFIG,
  broker: { ...CONFIG.broker, setUpMs: 6 },
  limits: {
    ...CONFIG.limits,
    maxSessionsPerUser: 4,
    maxServicesPerUser: 2,
    maxChannelsPerUser: 3,
    maxListenersPerUser: 1,
    maxSharedBytesPerUser: 40_000,
    maxFdsPerUser: 2,
    maxObjectsPerUser: 25,
    maxContextsPerUser: 0,
    maxCapacityBytes: 8192,
    defaultCapacityBytes: 4096,
  },
};
/** For what is not finished then. */
const LINGER_MS = 10;
/** One sequence of so many goes there. */
const TIGHT_ONES = 4;

type Heard = Map<string, number>;

/** Everybody here is one user, who floods: were he told off for it, little of what he tries would be answered. So time stands
 *  still, but in one of so many sequences, where everything takes long. */
const FLOODS = 8;
type Place = {
  readonly directory: string;
  readonly turns: Turns;
  readonly lingerMs: number;
  readonly heard: Heard;
};

let isFlood = false;
let clockMs = 0;
function now(): number {
  if (isFlood) clockMs += 1;
  return clockMs;
}

function runSeed(broker: Broker, seed: number, { directory, turns, lingerMs, heard }: Place): number {
  const random = new Random(seed);
  isFlood = seed % FLOODS === 0;
  clockMs += 10_000; // what was used before is forgotten
  try {
    let fuzz: Fuzz;
    {
      using pool = new Pool(random, directory); // whose end is the end of contexts
      fuzz = new Fuzz({ random, path: `${directory}/b`, pool, heard });
      fuzz.run(turns, lingerMs);
    }
    // Peers are gone: what they left is cleared within a few turns.
    for (let count = 0; count < 1000 && (broker.sessionCount > 0 || !broker.isEmpty); count++) {
      // Sockets that wait in each other's queues go when the kernel looks for such, which it does as one is closed.
      for (const fd of socketpair(constants.SOCK_STREAM)) fd.close();
      turns.turn(1);
    }
    expect(broker.sessionCount).toBe(0);
    expect(broker.isEmpty).toBe(true);
    unlinkSync(`${directory}/other`);
    return fuzz.sent;
  } catch (error) {
    throw new Error(`Fuzzing failed with seed ${seed}: ${error instanceof Error ? error.stack : String(error)}`);
  }
}

function brokerAt(directory: string, config: ShmlinkConfig, { logger }: Reached): Broker {
  mkdirSync(directory);
  const listener = socket(constants.AF_UNIX, constants.SOCK_STREAM | constants.SOCK_NONBLOCK);
  bind(listener, unixAddress(`${directory}/b`), `${directory}/b`);
  listen(listener, 128);
  return new Broker({ listeners: [listener], config, logger, env: {}, now });
}

/** Every event that a broker can send: what none of the sequences has led to was not tried. */
function neverHeard(heard: Heard): string[] {
  const all = Object.values(INTERFACES).flatMap(({ name, events }) => events.map((event) => `${name}.${event.name}`));
  return all.filter((event) => !heard.has(event));
}

/** wl_registry's is for globals that go: the broker's stay. */
const IMPOSSIBLE = ["wl_registry.global_remove"];

test("no sequence of messages and descriptors gets the broker to throw, or leaves anything behind", () => {
  using directory = makeRuntimeDir();
  const before = openFds().length;
  const heard: Heard = new Map();
  const only = process.env["SHMLINK_FUZZ_SEED"];
  using reached = new Reached();
  {
    using plenty = brokerAt(`${directory.path}/plenty`, CONFIG, reached);
    const time = new OwnTime();
    using tight = time.within(() => brokerAt(`${directory.path}/tight`, TIGHT, reached));
    const inPlenty: Place = { directory: `${directory.path}/plenty`, turns: plenty, lingerMs: 0, heard };
    const inTight: Place = { directory: `${directory.path}/tight`, turns: time.of(tight), lingerMs: LINGER_MS, heard };
    const run = (seed: number): number =>
      seed % TIGHT_ONES === 1 ? time.within(() => runSeed(tight, seed, inTight)) : runSeed(plenty, seed, inPlenty);
    let sent = 0;
    for (const seed of only === undefined ? CORPUS : [Number(only)]) sent += run(seed);
    const first = Date.now() % 1_000_000_000;
    const isMissing = (): boolean => neverHeard(heard).length > IMPOSSIBLE.length || reached.missing(LIMITS).length > 0;
    for (let seed = first; only === undefined && (sent < MESSAGES || isMissing()) && sent < MOST * MESSAGES; seed++)
      sent += run(seed);
  }
  expect(openFds().length).toBe(before);
  if (only !== undefined) return;
  expect(neverHeard(heard)).toEqual(IMPOSSIBLE);
  expect(reached.missing(LIMITS)).toEqual([]);
}, 600_000);

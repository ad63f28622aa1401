/** The broker against C that does the same: round trips, dials, relayed descriptors, ten thousand channels, a flood. */
import { pinToCpu, pipe } from "../ffi/mod.ts";
import { BrokerLink, type DialOptions } from "../lib/client/broker-link.ts";
import { buildForDbus, buildWithWayland, runBaseline } from "./baseline.ts";
import { channels } from "./broker-channels.ts";
import { flood } from "./broker-floods.ts";
import {
  alternate,
  Bench,
  type BrokerResult,
  onEach,
  result,
  type Section,
  startPeer,
  syncNs,
} from "./broker-setup.ts";
import { median } from "./median.ts";
import { CPUS } from "./processors.ts";

/** What could not be measured here, and why. */
export const leftOut: string[] = [];

const sync: Section = (bench, report) => {
  syncNs(bench, 20_000);
  const missing = buildForDbus();
  if (missing !== undefined) leftOut.push(`broker.sync.dbus: ${missing}`);
  return onEach([bench], async (suffix, cpus) => {
    const byLibrary: number[] = [];
    const byHand: number[] = [];
    const pair = alternate(
      () => syncNs(bench, 5_000),
      () => {
        if (missing === undefined) byLibrary.push(runBaseline("dbus", 5_000, ...cpus));
        if (missing === undefined) byHand.push(runBaseline("dbus", 5_000, ...cpus, "by-hand"));
        return runBaseline("sync", 5_000, ...cpus);
      },
    );
    const [ours] = pair;
    report(result(`broker.sync.rtt${suffix}`, "ns", pair, "C libwayland"));
    if (missing !== undefined) return;
    report(result(`broker.sync.dbus${suffix}`, "ns", [ours, median(byLibrary)], "dbus-broker, sd-bus"));
    report(result(`broker.sync.dbus.by-hand${suffix}`, "ns", [ours, median(byHand)], "dbus-broker, by hand"));
  });
};

/** After so long nothing is left to do of the dial before; after some milliseconds all of it has gone from the caches. */
const REST_MS = 0.5;
const SLEEPER = new Int32Array(new SharedArrayBuffer(4));

/** With rings of a page, the smallest, as in C. */
const SMALL: Dialled = { name: "bench.dial", options: { capacity: 4096 } };
/** With rings of the usual size, a megabyte each. */
const USUAL: Dialled = { name: "bench.dial.default", options: {} };
type Dialled = { readonly name: string; readonly options: DialOptions };

function dialUs({ link }: Bench, { name, options }: Dialled, count: number, restMs = 0): number {
  const times: number[] = [];
  for (let index = 0; index < count; index++) {
    if (restMs > 0) Atomics.wait(SLEEPER, 0, 0, restMs);
    const start = performance.now();
    const channel = link.dial(name, options);
    channel.receive();
    times.push((performance.now() - start) * 1000);
    channel.close();
  }
  return median(times);
}

/** What is asked of one. */
const DIAL_US = 300;

const dial: Section = async (bench, report) => {
  const peer = await startPeer("serve", SMALL.name);
  const usual = await startPeer("serve-default", USUAL.name);
  try {
    for (const each of [SMALL, USUAL]) dialUs(bench, each, 4000);
    await onEach([bench], async (suffix, cpus) => {
      for (const each of [peer, usual]) each.pin(cpus[1]);
      const least: number[] = [];
      const pair = alternate(
        () => dialUs(bench, SMALL, 500),
        () => {
          least.push(runBaseline("broker-dial", 5_000, ...cpus) / 1000);
          return runBaseline("dial", 5_000, ...cpus) / 1000;
        },
      );
      report(result(`broker.dial.us${suffix}`, "us", pair, "C connect and accept"));
      report(result(`broker.dial.c${suffix}`, "us", [pair[0], median(least)], "C, three processes"));
      const rested = alternate(
        () => dialUs(bench, SMALL, 200, REST_MS),
        () => runBaseline("broker-dial", 400, ...cpus, REST_MS * 1000) / 1000,
      );
      report(result(`broker.dial.rested${suffix}`, "us", rested, "C, rested"));
      const rounds = Array.from({ length: 5 }, () => dialUs(bench, USUAL, 500));
      report(result(`broker.dial.default${suffix}`, "us", [median(rounds), DIAL_US], "asked"));
    });
  } finally {
    await peer.stop();
    await usual.stop();
  }
};

/** How many at a time, and whether who offers them hears nothing of who has taken them, as in C. */
type Relayed = { readonly id: string; readonly bundle: number; readonly quiet: boolean };

const RELAYED: readonly Relayed[] = [
  { id: "", bundle: 1, quiet: true },
  { id: ".told", bundle: 1, quiet: false },
  { id: ".bundle-28", bundle: 28, quiet: true },
];

/** Descriptors a second, from one connection to another of this process, through the broker. */
function relayRate(bench: Bench, taker: BrokerLink, { bundle, quiet }: Relayed, count: number): number {
  using offer = bench.link.offer("bench.fd");
  const { reader, writer } = pipe();
  using passed = reader;
  writer.close();
  const fds = Array.from({ length: bundle }, () => passed);
  const start = performance.now();
  for (let index = 0; index < count; index += bundle) {
    offer.publish(fds, { quiet });
    for (const fd of taker.take("bench.fd").fds) fd.close();
  }
  return count / ((performance.now() - start) / 1000);
}

/** As many on either side: after a pause the first thousand find nothing in the caches, and C has done with them sooner. */
const DESCRIPTORS = 28_000;

const relay: Section = async (bench, report) => {
  using taker = BrokerLink.connect({ name: "bench taker" });
  for (const relayed of RELAYED) {
    const rate = (count: number): number => relayRate(bench, taker, relayed, count);
    rate(8_400);
    await onEach([bench], async (suffix, cpus) => {
      const pair = alternate(
        () => rate(DESCRIPTORS),
        () => 1e9 / runBaseline("relay", DESCRIPTORS, relayed.bundle, ...cpus),
      );
      report(result(`broker.fd.rate${relayed.id}${suffix}`, "fds/s", pair, "C through a third"));
    });
  }
};

const SECTIONS: Readonly<Record<string, Section>> = {
  "broker.sync": sync,
  "broker.dial": dial,
  "broker.fd": relay,
  "broker.channels": channels,
  "broker.flood": flood,
};

/** Answers every question in turn. @param ids  only these, or those that begin so, unless empty */
export async function benchBroker(
  ids: readonly string[],
  report: (result: BrokerResult) => void,
): Promise<readonly BrokerResult[]> {
  buildWithWayland();
  const results: BrokerResult[] = [];
  const asked = (id: string): boolean => ids.length === 0 || ids.some((wanted) => id.startsWith(wanted));
  const note = (one: BrokerResult): void => {
    if (!asked(one.id)) return;
    report(one);
    results.push(one);
  };
  const bench = new Bench();
  pinToCpu(CPUS[0]);
  try {
    for (const [prefix, section] of Object.entries(SECTIONS))
      if (ids.length === 0 || ids.some((wanted) => wanted.startsWith(prefix) || prefix.startsWith(wanted)))
        await section(bench, note, asked);
  } finally {
    bench.end();
  }
  return results;
}

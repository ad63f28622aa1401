/**
 * What ten thousand channels cost: opening them, memory, and what the broker then takes for everything else. That is compared
 * with another broker that has eight, in turns and on the same processor: a broker that is left to the scheduler is on ours
 * at one time and on the other at the next, which makes a round trip five times as long or as short.
 */
import { alternate, Bench, onEach, type Peer, result, type Section, startPeer, syncNs } from "./broker-setup.ts";
import { median } from "./median.ts";
import { CPUS } from "./processors.ts";

const MANY = 10_000;
/** Processes that hold them, at each side. */
const HOLDERS = 4;
/** Slices of round trips: one differs from the next by more than what is looked for. */
const SLICES = 15;
const US_EACH = 300;

function listMs({ link }: Bench): number {
  const start = performance.now();
  link.list();
  return performance.now() - start;
}

/** A peer that goes wherever there is room, like any program. */
async function startFree(...args: readonly (string | number)[]): Promise<Peer> {
  const peer = await startPeer(...args);
  peer.pinAll(CPUS.join());
  return peer;
}

/** Opens channels between so many pairs of processes. @returns milliseconds, all pairs together */
async function openMany(count: number, peers: Peer[]): Promise<number> {
  const diallers: Peer[] = [];
  const each = count / HOLDERS;
  for (let index = 0; index < HOLDERS; index++) {
    const name = `bench.${count}.${index}`;
    peers.push(await startFree("keep", name));
    diallers.push(await startFree("hold", name, each));
  }
  peers.push(...diallers);
  const start = performance.now();
  for (const dialler of diallers) dialler.go();
  for (const dialler of diallers) await dialler.line();
  return performance.now() - start;
}

/** Bytes that the broker alone has while it goes on working: what is not collected yet comes and goes. */
function workingBytes(bench: Bench): number {
  const samples = Array.from({ length: 9 }, () => {
    syncNs(bench, 2_000);
    return bench.brokerBytes;
  });
  return median(samples);
}

/** @returns milliseconds it took to open them, and bytes of each */
async function fill(bench: Bench, peers: Peer[]): Promise<{ openMs: number; bytes: number }> {
  bench.place(CPUS[1]);
  const before = workingBytes(bench);
  const openMs = await openMany(MANY, peers);
  return { openMs, bytes: (workingBytes(bench) - before) / MANY };
}

export const channels: Section = async (bench, report) => {
  const peers: Peer[] = [];
  const few = new Bench();
  try {
    await openMany(HOLDERS * 2, peers);
    workingBytes(few); // as warm as the other
    bench.enter();
    const { openMs, bytes } = await fill(bench, peers);
    report(result(`broker.channels.${MANY}.open`, "ms", [openMs, (US_EACH * MANY) / 1000], `${US_EACH} us each`));
    report(result(`broker.channels.${MANY}.memory`, "bytes", [bytes, 4096], "4 KiB a channel"));
    await onEach([bench, few], (suffix) => {
      const compare = (ask: (bench: Bench) => number, rounds: number): [number, number] =>
        alternate(
          () => ask(bench),
          () => ask(few),
          rounds,
        );
      const rtt = compare((each) => syncNs(each, 2_000), SLICES);
      report(result(`broker.channels.${MANY}.rtt${suffix}`, "ns", rtt, "with 8 channels"));
      report(result(`broker.channels.${MANY}.ls${suffix}`, "ms", compare(listMs, 9), "with 8 channels"));
    });
  } finally {
    bench.enter();
    await Promise.all(peers.map((peer) => peer.stop()));
    few.link.sync(); // it knows that they have gone, and leaves nothing for a next broker
    few.end();
  }
};

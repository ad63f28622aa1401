/**
 * Somebody of another identity floods; what do we notice? We and the broker share a processor, and who floods has the other:
 * what is asked is what the broker does, not who has the processor. Each slice of round trips under a flood is compared with
 * the two beside it without one, and the median of those ratios is told: a virtual machine is not the same one later.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { constants, kill, pipe } from "../ffi/mod.ts";
import { listenOn } from "../lib/transport/socket-path.ts";
import { type Bench, CONFIG, result, type Section, startPeer, syncNs } from "./broker-setup.ts";
import { median, quantile } from "./median.ts";
import { CPUS } from "./processors.ts";

/** What somebody can do without end, each alone with the broker and us; and "apart": the same load on the other processor
 *  by somebody who does not speak to the broker, which is what the machine itself costs us. A crowd is many connections of which none fills a turn: of somebody else ("crowd",
 *  and "ones" with one request at a time each), and of another process of our own user ("own"). */
const FLOODS = ["apart", "messages", "refused", "unread", "connections", "fds", "crowd", "ones", "own"] as const;
const ROUNDS = 9;
const ROUND_TRIPS = 4_000;
const PARTS = { p50: 0.5, p99: 0.99 } as const;

/** Round trips in nanoseconds. */
type Slice = readonly number[];

function measure({ link }: Bench): Slice {
  return Array.from({ length: ROUND_TRIPS }, () => {
    const start = performance.now();
    link.sync();
    return (performance.now() - start) * 1e6;
  });
}

/** The limit of a user's rate is the default one. Beside a crowd of our own user it is out of the way: his rate is ours, and
 *  our round trips alone can be more than 50 000 a second. */
const RATES: Readonly<Record<string, string>> = { own: "500_000" };

async function limitRate(bench: Bench, perSecond: string): Promise<void> {
  writeFileSync(join(bench.folder, "shmlink.toml"), CONFIG.replace("10_000_000", perSecond));
  kill(bench.brokerPid, constants.SIGHUP);
  await pause();
}

export const flood: Section = async (bench, report, asked) => {
  const path = join(bench.folder, "context.sock");
  const { reader, writer } = pipe();
  using listener = listenOn(path);
  bench.link.createContext({ listener, closeFd: reader, engine: "bench", app: "flood", instance: "1" });
  reader.close();
  bench.place(CPUS[0]);
  syncNs(bench, 20_000);
  for (const kind of FLOODS.filter((each) =>
    Object.keys(PARTS).some((name) => asked(`broker.flood.${each}.${name}`)),
  )) {
    await limitRate(bench, RATES[kind] ?? "50_000");
    const { quiet, flooded } = await takeTurns(bench, kind === "own" ? bench.socketPath : path, kind);
    for (const [name, part] of Object.entries(PARTS))
      report(compare(`broker.flood.${kind}.${name}`, part, quiet, flooded));
  }
  writer.close();
};

/** Our own rate's bucket fills, and whoever has just come or gone is done with that. */
function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 200));
}

async function takeTurns(bench: Bench, path: string, kind: string): Promise<{ quiet: Slice[]; flooded: Slice[] }> {
  await pause();
  const quiet: Slice[] = [measure(bench)];
  const flooded: Slice[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const peer = await startPeer("flood", path, kind);
    peer.pinAll(CPUS[1]);
    await pause();
    flooded.push(measure(bench));
    await peer.stop();
    await pause();
    quiet.push(measure(bench));
  }
  return { quiet, flooded };
}

function compare(
  id: string,
  part: number,
  quiet: readonly Slice[],
  flooded: readonly Slice[],
): ReturnType<typeof result> {
  const without = quiet.map((slice) => quantile(slice, part));
  const values = flooded.map((slice) => quantile(slice, part));
  const beside = values.map((_, index) => ((without[index] ?? 0) + (without[index + 1] ?? 0)) / 2);
  const ratio = median(values.map((value, index) => value / (beside[index] ?? 0)));
  return {
    ...result(id, "ns", [median(values), median(beside)], "without a flood"),
    ratio: Math.round(ratio * 1000) / 1000,
  };
}

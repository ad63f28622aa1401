/** A channel to a second process, set up as the broker would do it. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { constants, pipe, socketpair, write } from "../ffi/mod.ts";
import { type Channel, ChannelSetup, type EndOptions } from "../lib/channel/channel.ts";
import { createRing, RingStats, sealRing } from "../lib/channel/memfd.ts";
import { BUN, ROOT, type Runtime } from "../test/helpers/runtimes.ts";

export type PairOptions = {
  readonly capacity: number;
  /** What the second process runs on; Bun unless given. */
  readonly runtime?: Runtime;
  /** Of both sides; their rings' memory is taken at once unless it says otherwise, as the C ring does. */
  readonly end: EndOptions;
};

export type Pair = {
  readonly channel: Channel;
  /** Of our ring. */
  readonly stats: RingStats;
  /** Kills the second process; stop() is still to be called. */
  kill(): void;
  stop(): Promise<void>;
};

export async function startPair({ capacity, runtime = BUN, end }: PairOptions): Promise<Pair> {
  const options: EndOptions = { prefault: true, ...end };
  const rings = ([0, 1] as const).map((side) => createRing({ channelId: 1, side, capacity }));
  const [ours, theirs] = rings;
  const [bell, theirBell] = socketpair(constants.SOCK_STREAM | constants.SOCK_NONBLOCK);
  if (ours === undefined || theirs === undefined) throw new TypeError("Cannot make two rings");
  const sealed = ours.dup();
  const setup = new ChannelSetup(ours, bell);
  const go = pipe();
  const [program = "", ...args] = runtime.command("bench/peer.ts", JSON.stringify(options));
  const child = spawn(program, args, {
    cwd: ROOT,
    stdio: [go.reader.number, "pipe", "inherit", theirs.number, sealed.number, theirBell.number],
  });
  theirBell.close();
  go.reader.close();
  await once(child.stdout as NonNullable<ChildProcess["stdout"]>, "data");
  sealRing(sealed);
  sealRing(theirs);
  const stats = new RingStats(sealed);
  sealed.close();
  const channel = setup.complete(theirs, options);
  write(go.writer, new Uint8Array(1)); // at once: a stream of the runtime would wait for an event loop that will block
  go.writer.close();
  const ended = once(child, "exit");
  return {
    channel,
    stats,
    kill: () => void child.kill("SIGKILL"),
    stop: async () => {
      stats.close();
      channel.close();
      await ended;
    },
  };
}

/** A channel to a second process of the same runtime, set up as the broker would do it. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { constants, pipe, socketpair, write } from "../ffi/mod.ts";
import { type Channel, ChannelSetup } from "../lib/channel/channel.ts";
import { createRing, sealRing } from "../lib/channel/memfd.ts";

const PEER: string = fileURLToPath(new URL("peer.ts", import.meta.url));

export type PairOptions = {
  readonly capacity: number;
  readonly spinUs: number;
};

export type Pair = { readonly channel: Channel; stop(): Promise<void> };

export async function startPair({ capacity, spinUs }: PairOptions): Promise<Pair> {
  const rings = ([0, 1] as const).map((side) => createRing({ channelId: 1, side, capacity }));
  const [ours, theirs] = rings;
  const [bell, theirBell] = socketpair(constants.SOCK_STREAM | constants.SOCK_NONBLOCK);
  if (ours === undefined || theirs === undefined) throw new TypeError("Cannot make two rings");
  const sealed = ours.dup();
  const setup = new ChannelSetup(ours, bell);
  const go = pipe();
  const child = spawn(process.execPath, [PEER, String(spinUs)], {
    stdio: [go.reader.number, "pipe", "inherit", theirs.number, sealed.number, theirBell.number],
  });
  theirBell.close();
  go.reader.close();
  await once(child.stdout as NonNullable<ChildProcess["stdout"]>, "data");
  sealRing(sealed);
  sealRing(theirs);
  sealed.close();
  const channel = setup.complete(theirs, { spinUs, prefault: true });
  write(go.writer, new Uint8Array(1)); // at once: a stream of the runtime would wait for an event loop that will block
  go.writer.close();
  const ended = once(child, "exit");
  return {
    channel,
    stop: async () => {
      channel.close();
      await ended;
    },
  };
}

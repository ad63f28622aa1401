/** Waiting for a message that is read where it lies: a trusted channel shows it, and waiting is its caller's. */
import { constants, poll } from "../ffi/mod.ts";
import type { Channel } from "../lib/channel/channel.ts";

/** @param spinUs  0: asleep between two looks; else it goes on looking */
export function awaitView(channel: Channel, spinUs: number | undefined): Uint8Array {
  for (;;) {
    const view = channel.peek();
    if (view !== undefined) return view;
    if (channel.ended) throw new Error("Cannot go on measuring: the other side has ended");
    if (spinUs !== 0 || !channel.armReceive()) continue;
    poll([{ fd: channel.doorbellFd, events: constants.EPOLLIN }], -1);
    channel.drainDoorbell();
  }
}

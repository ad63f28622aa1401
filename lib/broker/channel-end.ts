/** Channels that are given up, or let go of: what each side hears, and what is given back. */
import { discardSide, sharedBytes } from "./channel-sides.ts";
import { type BrokerCore, failureNumber } from "./core.ts";
import { endedChannel } from "./listing.ts";
import type { ChannelRecord } from "./records.ts";
import { whoIs } from "./who.ts";

/** It is not whole in time: who has not mapped his ring hears it, and loses the channel; so does then the other one. */
export function abandonChannel(core: BrokerCore, channel: ChannelRecord, limitMs: number): void {
  const message = `Cannot finish the channel to "${channel.name}": a ring was not mapped in time, broker.setUpMs is ${limitMs}`;
  const code = failureNumber("refused");
  for (const [index, { session, object, memfd, sealed }] of channel.sides.entries()) {
    if (session === undefined || memfd === undefined || sealed) continue;
    session.send(object, "shmlink_channel_v1", { kind: "failed", code, message });
    core.logger.warn(message, whoIs(session.owner));
    const other = channel.sides[index === 0 ? 1 : 0];
    other.session?.send(other.object, "shmlink_channel_v1", { kind: "failed", code, message });
    other.session?.handles.delete(other.object);
    if (other.waiting !== undefined) other.session?.spares.tellDropped(other.waiting.spare);
    other.session = undefined;
    return session.release(object);
  }
}

/** One side lets go. The record ends with it; the other side hears of it only while its set-up still waits. */
export function dropSide(core: BrokerCore, channel: ChannelRecord, index: 0 | 1): void {
  const other = channel.sides[index === 0 ? 1 : 0];
  for (const { session, waiting } of channel.sides)
    if (waiting !== undefined) session?.spares.tellDropped(waiting.spare);
  channel.sides[index].session = undefined;
  const { session } = other;
  if (session !== undefined && channel.sides[index].memfd !== undefined) {
    const message = `Cannot finish the channel to "${channel.name}": the other side is gone`;
    const code = failureNumber(index === 1 ? "refused" : "gone");
    session.send(other.object, "shmlink_channel_v1", { kind: "failed", code, message });
  }
  if (session !== undefined) session.handles.delete(other.object);
  other.session = undefined;
  if (!core.registry.channels.delete(channel.id)) return;
  if (channel.sides.every(({ sealed }) => sealed))
    core.registry.remember(channel.id, channel.name, endedChannel(channel));
  core.survival.forgetChannel(channel);
  channel.unwatch?.();
  for (const side of channel.sides) {
    if (side.memfd !== undefined) core.quota.release(side.owner, { fds: 1 });
    discardSide(side);
    core.quota.release(side.owner, sharedBytes(side));
  }
}

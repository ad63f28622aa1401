/** One side of a channel: its ring, made here or by its client before, and what the broker keeps of it. */
import type { OwnedFd } from "../../ffi/mod.ts";
import { createRing } from "../channel/memfd.ts";
import { type RingSide, ringFileBytes } from "../ring/layout.ts";
import type { SidePlan } from "./channel-plan.ts";
import type { ChannelSide } from "./records.ts";

/** For a side that has to map its ring first; undefined for one that has. */
export type MapEvent =
  | {
      readonly kind: "map";
      readonly channelId: number;
      readonly side: RingSide;
      readonly memfd: OwnedFd;
      readonly doorbell: OwnedFd;
    }
  | undefined;

/** @param doorbell  its end; taken when this does not throw  @throws SyscallError */
export function makeSide(
  channelId: number,
  side: RingSide,
  { session, object, capacity, spare }: SidePlan,
  doorbell: OwnedFd,
): { readonly record: ChannelSide; readonly map: MapEvent } {
  const nothing = { rights: undefined, stats: undefined, copy: undefined };
  const common = { owner: session.owner, capacity, session, object, ...nothing };
  if (spare !== undefined) {
    const waiting = { spare, doorbell };
    return { record: { ...common, memfd: spare.fd, sealed: true, waiting }, map: undefined };
  }
  const ring = createRing({ channelId, side, capacity, name: `shmlink:${channelId}:${side}` });
  const memfd = session.core.closer.guard(ring, session.owner);
  try {
    const map = { kind: "map", channelId, side, memfd: memfd.dup(), doorbell } as const;
    return { record: { ...common, memfd, sealed: false, waiting: undefined }, map };
  } catch (error) {
    memfd.close();
    throw error;
  }
}

/** Of a channel that came to nothing: a spare ring goes back to its owner's others. */
export function abandonSide(side: ChannelSide): void {
  if (side.waiting !== undefined) side.memfd = undefined;
  discardSide(side);
}

/** Closes what the broker still has of it. Safe to call twice. */
export function discardSide(side: ChannelSide): void {
  for (const fd of [side.memfd, side.copy, side.waiting?.doorbell]) fd?.close();
  side.memfd = undefined;
  side.copy = undefined;
  side.waiting = undefined;
  side.stats?.close();
  side.stats = undefined;
}

export function sharedBytes({ capacity }: ChannelSide): { channels: number; sharedBytes: number } {
  return { channels: 1, sharedBytes: ringFileBytes(capacity) };
}

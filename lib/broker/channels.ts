/** Channels being set up and their records: rings are made here, sealed when mapped, and forgotten when both sides have them. */
import { constants, type OwnedFd, SyscallError, socketpair } from "../../ffi/mod.ts";
import { createRing, RingStats, sealRing } from "../channel/memfd.ts";
import { FailureError } from "../errors.ts";
import { NO_CAPACITY, ringFileBytes } from "../ring/layout.ts";
import type { ObjectId } from "../util/brand.ts";
import { type BrokerCore, chargeQuota, failureNumber } from "./core.ts";
import { agree, type Wish } from "./directions.ts";
import { endedChannelEntry } from "./listing.ts";
import type { ChannelRecord, ChannelSide, Owner, ServiceRecord } from "./records.ts";
import type { Session } from "./session.ts";

function sharedBytes(side: ChannelSide): { channels: number; sharedBytes: number } {
  return { channels: 1, sharedBytes: ringFileBytes(side.capacity) };
}

function makeSide(
  channelId: number,
  side: 0 | 1,
  session: Session,
  object: ObjectId,
  capacity: number,
): { record: ChannelSide; ring: OwnedFd } {
  const owner: Owner = session.owner;
  const ring = createRing({ channelId, side, capacity, name: `shmlink:${channelId}:${side}` });
  return {
    record: { owner, capacity, memfd: ring, stats: undefined, session, object, sealed: false, copy: undefined },
    ring,
  };
}

function discardSide(side: ChannelSide): void {
  for (const fd of [side.memfd, side.copy]) fd?.close();
  side.memfd = undefined;
  side.copy = undefined;
  side.stats?.close();
  side.stats = undefined;
}

/** Who asks for a channel, and the bytes of its ring. */
type Dialler = {
  readonly session: Session;
  readonly object: ObjectId;
  readonly capacity: number;
  readonly directions: number;
};

/** Makes both rings and the doorbell and sends each side its own; a side that only receives has a file without a ring.
 *  All or nothing. @throws FailureError "denied", "quota" or "exhausted" */
export function openChannel(core: BrokerCore, dialler: Dialler, service: ServiceRecord, rule: string): void {
  const [toService, toDialler] = agree(service.name, wishOf(dialler), wishOf(service));
  const capacities = [toService ? dialler.capacity : NO_CAPACITY, toDialler ? service.capacity : NO_CAPACITY] as const;
  using charges = new DisposableStack();
  for (const [index, { session }] of [dialler, service].entries()) {
    const charge = { channels: 1, sharedBytes: ringFileBytes(capacities[index === 0 ? 0 : 1]) };
    chargeQuota(core, session.owner, charge);
    charges.defer(() => core.quota.release(session.owner, charge));
  }
  try {
    setUp(core, dialler, service, { rule, capacities });
    charges.move(); // the record's now; dropSide() gives them back
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    throw new FailureError("exhausted", `Cannot make a channel to "${service.name}": ${error.message}`, {
      cause: error,
    });
  }
}

function wishOf({ session, directions }: Dialler | ServiceRecord): Wish {
  return { directions, grants: session.owner.grants };
}

type Terms = { readonly rule: string; readonly capacities: readonly [number, number] };

function setUp(core: BrokerCore, dialler: Dialler, service: ServiceRecord, { rule, capacities }: Terms): void {
  const id = core.registry.nextId();
  const built = new DisposableStack();
  try {
    const near = makeSide(id, 0, dialler.session, dialler.object, capacities[0]);
    built.defer(() => discardSide(near.record));
    const far = makeSide(id, 1, service.session, service.object, capacities[1]);
    built.defer(() => discardSide(far.record));
    const [nearBell, farBell] = socketpair(constants.SOCK_STREAM | constants.SOCK_NONBLOCK);
    built.use(nearBell);
    built.use(farBell);
    const nearCopy = built.use(near.ring.dup());
    const farCopy = built.use(far.ring.dup());
    built.move(); // nothing below fails
    far.record.object = service.session.createObject("shmlink_channel_v1");
    const record: ChannelRecord = {
      kind: "channel",
      id,
      name: service.name,
      serviceId: service.id,
      rule,
      sides: [near.record, far.record],
    };
    core.registry.channels.set(id, record);
    service.accepted += 1;
    announce(record, service, [nearCopy, nearBell], [farCopy, farBell]);
  } finally {
    built.dispose();
  }
}

function announce(
  channel: ChannelRecord,
  service: ServiceRecord,
  near: readonly [OwnedFd, OwnedFd],
  far: readonly [OwnedFd, OwnedFd],
): void {
  const [dialler, server] = channel.sides;
  const { pid, uid } = dialler.owner;
  dialler.session?.handles.set(dialler.object, { kind: "side", channel, side: 0 });
  server.session?.handles.set(server.object, { kind: "side", channel, side: 1 });
  server.session?.send(service.object, "shmlink_service_v1", { kind: "incoming", channel: server.object, pid, uid });
  for (const [index, [memfd, doorbell]] of [near, far].entries()) {
    const side = channel.sides[index === 0 ? 0 : 1];
    const event = { kind: "map", channelId: channel.id, side: index, memfd, doorbell } as const;
    if (side.session === undefined) for (const fd of [memfd, doorbell]) fd.close();
    else side.session.send(side.object, "shmlink_channel_v1", event);
  }
}

/** The side has mapped its ring: seal it and hand it to the other side. */
export function handOver(core: BrokerCore, channel: ChannelRecord, index: 0 | 1): void {
  const side = channel.sides[index];
  const other = channel.sides[index === 0 ? 1 : 0];
  const ring = side.memfd;
  if (ring === undefined) return; // the other side is gone, and was told about
  sealRing(ring, side.capacity);
  side.stats = watch(ring, side.capacity);
  side.sealed = true;
  side.memfd = undefined;
  if (other.session === undefined) return ring.close();
  if (core.survival.isEnabled) side.copy = copyOf(ring);
  const { pid, uid } = side.owner;
  other.session.send(other.object, "shmlink_channel_v1", { kind: "peer", memfd: ring, pid, uid });
  if (other.sealed && core.survival.isEnabled) core.survival.keepChannel(channel);
}

/** Out of descriptors, the channel is all the same what it should be; it is not listed by a broker after this one. */
function copyOf(ring: OwnedFd): OwnedFd | undefined {
  try {
    return ring.dup();
  } catch (error) {
    if (error instanceof SyscallError) return undefined;
    throw error;
  }
}

/** Its counters for listings; undefined, which is shown as nothing, where the kernel maps no more (vm.max_map_count). */
function watch(ring: OwnedFd, capacity: number): RingStats | undefined {
  try {
    return new RingStats(ring, capacity);
  } catch (error) {
    if (error instanceof SyscallError) return undefined;
    throw error;
  }
}

/** One side lets go. The record ends with it; the other side hears of it only while its set-up still waits. */
export function dropSide(core: BrokerCore, channel: ChannelRecord, index: 0 | 1): void {
  const other = channel.sides[index === 0 ? 1 : 0];
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
  if (channel.sides.every(({ sealed }) => sealed)) core.registry.remember(endedChannelEntry(channel));
  core.survival.forgetChannel(channel);
  channel.unwatch?.();
  for (const side of channel.sides) {
    discardSide(side);
    core.quota.release(side.owner, sharedBytes(side));
  }
}

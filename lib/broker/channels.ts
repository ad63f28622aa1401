/** Channels being set up: rings are made here, sealed when mapped, and forgotten when both sides have them. */
import { type OwnedFd, SyscallError } from "../../ffi/mod.ts";
import { checkSealedRing } from "../channel/memfd.ts";
import { FailureError, ProtocolError } from "../errors.ts";
import { NO_CAPACITY } from "../ring/layout.ts";
import type { ObjectId } from "../util/brand.ts";
import { isFull } from "./backlog.ts";
import { makeBells } from "./bells.ts";
import { giveBack, plan, type SidePlan } from "./channel-plan.ts";
import { abandonSide, type MapEvent, makeSide } from "./channel-sides.ts";
import { type BrokerCore, denied, failureNumber } from "./core.ts";
import { agree, type Wish } from "./directions.ts";
import { explainRefusal } from "./exhaustion.ts";
import type { Right } from "./grants.ts";
import type { ChannelRecord, ChannelSide, ServiceRecord } from "./records.ts";
import { backingOf } from "./rights.ts";
import type { Session } from "./session.ts";
import { shareFd } from "./shared-fd.ts";

/** Of shmlink_channel_v1, from which on it has the event open. */
const VERSION_OF_OPEN = 2;

/** What a channel takes of each side. */
const DIALLERS: readonly Right[] = ["dial", "send", "receive"];
const SERVICES: readonly Right[] = ["listen", "send", "receive"];

/** Who asks for a channel, and the bytes of its ring. */
type Dialler = {
  readonly session: Session;
  readonly object: ObjectId;
  readonly capacity: number;
  readonly directions: number;
};

/** Makes what both sides need and tells them: rings and a doorbell, unless a side has a spare ring already. A side that only
 *  receives has a file without a ring. All or nothing.
 *  @throws FailureError "denied", "quota", "exhausted" */
export function openChannel(core: BrokerCore, dialler: Dialler, service: ServiceRecord, rule: string): void {
  const { name } = service;
  const flow = agree(name, flowWish(dialler), flowWish(service));
  if (typeof flow === "string") throw denied(core, dialler.session.owner, `dial "${name}"`, flow);
  const [toService, toDialler] = flow;
  const isNew = [dialler, service].every(({ session, object }) => session.versionOf(object) >= VERSION_OF_OPEN);
  let near: SidePlan | undefined;
  let far: SidePlan | undefined;
  try {
    near = plan(core, dialler, { capacity: toService ? dialler.capacity : NO_CAPACITY, name, isNew });
    far = plan(core, service, { capacity: toDialler ? service.capacity : NO_CAPACITY, name, isNew });
    setUp(core, near, far, service, rule); // they are the record's then; dropSide() gives them back
  } catch (error) {
    for (const made of [far, near]) if (made !== undefined) giveBack(core, made);
    if (!(error instanceof SyscallError)) throw error;
    throw new FailureError("exhausted", `Cannot dial "${name}": ${explainRefusal(error)}`, { cause: error });
  }
}

function flowWish({ session, directions }: Dialler | ServiceRecord): Wish {
  return { directions, grants: session.owner.grants };
}

function setUp(core: BrokerCore, nearPlan: SidePlan, farPlan: SidePlan, service: ServiceRecord, rule: string): void {
  const id = core.registry.nextId();
  const [near, far] = makeSides(core, id, nearPlan, farPlan);
  // nothing below fails
  near.record.rights = backingOf(near.record.owner, DIALLERS, service.name);
  far.record.rights = backingOf(far.record.owner, SERVICES, service.name);
  far.record.object = service.session.createObject("shmlink_channel_v1", service.object);
  const record: ChannelRecord = {
    kind: "channel",
    id,
    name: service.name,
    serviceId: service.id,
    rule,
    sinceMs: performance.now(),
    sides: [near.record, far.record],
  };
  core.registry.channels.set(id, record);
  service.accepted += 1;
  announce(core, record, service, [near.map, far.map]);
  if (near.record.memfd !== undefined || far.record.memfd !== undefined) core.deadlines.watch();
}

type MadeSide = ReturnType<typeof makeSide>;

/** Both, with an end of the doorbell each, or nothing. @throws SyscallError */
function makeSides(core: BrokerCore, id: number, nearPlan: SidePlan, farPlan: SidePlan): [MadeSide, MadeSide] {
  const [nearBell, farBell] = makeBells(core.closer, nearPlan, farPlan);
  let near: MadeSide | undefined;
  try {
    near = makeSide(id, 0, nearPlan, nearBell);
    return [near, makeSide(id, 1, farPlan, farBell)];
  } catch (error) {
    near?.map?.memfd.close();
    if (near !== undefined) abandonSide(near.record);
    for (const bell of [farBell, nearBell]) bell.close();
    throw error;
  }
}

/** The dialler first: it gets ready while the service does. With all of them on one processor the service would otherwise
 *  answer, and do whatever it does next, before the dialler can hear it. */
function announce(
  core: BrokerCore,
  channel: ChannelRecord,
  service: ServiceRecord,
  maps: readonly [MapEvent, MapEvent],
): void {
  const [dialler, server] = channel.sides;
  const { pid, uid } = dialler.owner;
  dialler.session?.handles.set(dialler.object, { kind: "side", channel, side: 0 });
  server.session?.handles.set(server.object, { kind: "side", channel, side: 1 });
  sendMap(dialler, maps[0]);
  if (server.sealed) give(core, channel, 1);
  server.session?.send(service.object, "shmlink_service_v1", { kind: "incoming", channel: server.object, pid, uid });
  sendMap(server, maps[1]);
  if (dialler.sealed) give(core, channel, 0);
}

function sendMap({ session, object }: ChannelSide, map: MapEvent): void {
  if (map === undefined) return;
  if (session === undefined) for (const fd of [map.memfd, map.doorbell]) fd.close();
  else session.send(object, "shmlink_channel_v1", map);
}

/** The side has mapped its ring and sealed it: it goes to the other side, if it is as the other side needs it. Sealing it is
 *  the client's business, whatever its version: whoever writes to a file, or reserves pages of it, keeps out those who seal
 *  it for as long as he likes. @throws ProtocolError when it is not, SyscallError */
export function handOver(core: BrokerCore, channel: ChannelRecord, index: 0 | 1): void {
  const side = channel.sides[index];
  if (side.memfd === undefined) return; // the other side is gone, and was told about
  if (checkSealedRing(side.memfd) !== side.capacity)
    throw new ProtocolError(`The ring of the channel to "${channel.name}" has another size than it was made with`);
  side.sealed = true;
  give(core, channel, index);
}

/** Hands a ring that is sealed to the other side, if that one reads. */
function give(core: BrokerCore, channel: ChannelRecord, index: 0 | 1): void {
  const side = channel.sides[index];
  const other = channel.sides[index === 0 ? 1 : 0];
  if (side.memfd === undefined) return;
  if (other.session !== undefined && isFull(other.session, 2)) return giveUp(channel, index); // with a doorbell
  const memfd = shareOut(core, side, side.memfd);
  side.memfd = undefined;
  core.quota.release(side.owner, { fds: 1 });
  if (other.session === undefined) return memfd.close();
  const { pid, uid } = side.owner;
  const { waiting } = other;
  other.waiting = undefined;
  if (waiting === undefined) other.session.send(other.object, "shmlink_channel_v1", { kind: "peer", memfd, pid, uid });
  else {
    const { doorbell, spare } = waiting;
    const place = { channelId: channel.id, side: 1 - index, serial: spare.serial };
    other.session.send(other.object, "shmlink_channel_v1", { kind: "open", ...place, memfd, doorbell, pid, uid });
  }
  if (other.memfd === undefined && core.survival.isEnabled) core.survival.keepChannel(channel);
}

/** Who is not given it hears that its ring did not come, as when the side that sealed it had gone. */
function giveUp({ name, sides }: ChannelRecord, index: 0 | 1): void {
  const { session, object } = sides[index];
  const message = `Cannot finish the channel to "${name}": the other side does not read, and too many descriptors wait for it`;
  session?.send(object, "shmlink_channel_v1", { kind: "failed", code: failureNumber("quota"), message });
  session?.release(object);
}

/** What the listings and who outlives us need of it stays here. @returns what the other side is given */
function shareOut(core: BrokerCore, side: ChannelSide, memfd: OwnedFd): OwnedFd {
  const [given, watched, copy] = shareFd(memfd, core.survival.hasRoom ? 3 : 2);
  if (given === undefined || watched === undefined) throw new TypeError("Cannot share a descriptor with nobody");
  side.stats = core.youngRings.watch(watched, side.capacity);
  side.copy = copy;
  return given;
}

/** Records as the entries that `ls` and `inspect` show. Reads the rings' control pages; asks nobody. */
import { directionStats, emptySideStatistics, type SideStatistics } from "../channel/memfd.ts";
import { type Events, SHMLINK_MANAGER_V1_KIND } from "../protocol/shmlink-v1.gen.ts";
import { contextName } from "../util/context-word.ts";
import { directionName } from "./directions.ts";
import { fitDetails, fitPath } from "./entry-text.ts";
import { plainText } from "./plain-text.ts";
import type {
  AnyRecord,
  ChannelRecord,
  ChannelSide,
  ConnectionRecord,
  ListenerRecord,
  OfferRecord,
  Owner,
  ServiceRecord,
} from "./records.ts";
import { listenerName } from "./registry.ts";
import { grantsText, rightsText } from "./rights.ts";

export type ListingEntry = Extract<Events<never>["shmlink_listing_v1"], { kind: "entry" }>;
/** Of a path in a listing. */
const MAX_EXE_BYTES = 400;
const MAX_RULE_BYTES = 400;
const MAX_EXPORTER_BYTES = 16;
/** Of the list for one side of a channel. */
const MAX_GRANTS_BYTES = 400;

type Kind = keyof typeof SHMLINK_MANAGER_V1_KIND;

/** @param details  as JSON, of entry-text.ts where something in it can be long */
export function makeEntry(kind: Kind, id: number, name: string, owner: Owner, details: string): ListingEntry {
  const { uid, pid } = owner;
  return {
    kind: "entry",
    entryKind: SHMLINK_MANAGER_V1_KIND[kind],
    entryId: id,
    name,
    uid,
    pid,
    exe: fitPath(exeOf(owner), name, details),
    details,
  };
}

/** What many entries have in common is made once: of each owner, the path of its program and its description as a peer. */
const EXES = new WeakMap<Owner, string>();
const PEERS = new WeakMap<Owner, string>();

/** Of a program, for people: its path may be as long as a message. */
export function exeOf(owner: Owner): string {
  const known = EXES.get(owner);
  if (known !== undefined) return known;
  const exe = plainText(owner.exe, MAX_EXE_BYTES);
  EXES.set(owner, exe);
  return exe;
}

function peerText(owner: Owner): string {
  const known = PEERS.get(owner);
  if (known !== undefined) return known;
  const { pid, uid } = owner;
  const text = JSON.stringify({ pid, uid, exe: exeOf(owner) });
  PEERS.set(owner, text);
  return text;
}

/** @param isWhole  for who has asked for it in particular: also by which rights, which are mostly the same for all */
export function recordEntry(record: AnyRecord, isWhole: boolean): ListingEntry {
  if (record.kind === "channel") return channelEntry(record, bothStatistics(record), { isWhole });
  const name = nameOf(record);
  const details = fitDetails(name, (maxBytes) => detailsOf(record, isWhole, maxBytes));
  return makeEntry(record.kind, record.id, name, ownerOf(record), details);
}

function ownerOf(record: Exclude<AnyRecord, ChannelRecord>): Owner {
  return record.kind === "service" || record.kind === "connection" ? record.session.owner : record.owner;
}

/** By which it is found and granted. */
export function nameOf(record: AnyRecord): string {
  return record.kind === "listener" ? listenerName(record.address, record.port) : record.name;
}

/** The rule is missing where an older broker did not write it down. */
function detailsOf(record: Exclude<AnyRecord, ChannelRecord>, isWhole: boolean, maxBytes: number): object {
  const facts = { ...factsOf(record, maxBytes), ...ruleText("rule", record.rule, maxBytes) };
  if (!isWhole || record.kind === "connection") return facts;
  const backing = record.kind === "context" ? "own" : record.rights; // no grant makes a context
  return { ...facts, rights: rightsText(ownerOf(record), backing, maxBytes) };
}

function factsOf(record: Exclude<AnyRecord, ChannelRecord>, maxBytes: number): object {
  switch (record.kind) {
    case "service":
      return serviceDetails(record);
    case "listener":
      return listenerDetails(record);
    case "relayed":
      return offerDetails(record, maxBytes);
    case "context":
      return { ...record.identity, accepted: record.accepted };
    case "connection":
      return connectionDetails(record, maxBytes);
  }
}

function ruleText(key: "rule" | "fdsRule", rule: string | undefined, maxBytes: number): object {
  return rule === undefined ? {} : { [key]: plainText(rule, maxBytes) };
}

/** What a channel was when it ended, with its counters of now. */
export function endedChannel(record: ChannelRecord): () => ListingEntry {
  const stats = bothStatistics(record);
  return () => channelEntry(record, stats, { state: "ended", isWhole: true });
}

function serviceDetails(record: ServiceRecord): object {
  return { capacity: record.capacity, accepted: record.accepted, program: record.session.name };
}

function connectionDetails({ session, mintedFrom }: ConnectionRecord, maxBytes: number): object {
  const { context, grants } = session.owner;
  return {
    program: session.name,
    ...(mintedFrom === undefined ? {} : { mintedFrom }),
    ...(context === undefined ? {} : { context: contextName(context) }),
    ...(grants === undefined ? {} : grantsText(grants, maxBytes * 3)),
  };
}

type BothStatistics = readonly [SideStatistics, SideStatistics];

function bothStatistics({ sides: [dialler, service] }: ChannelRecord): BothStatistics {
  return [statsOf(dialler), statsOf(service)];
}

/** Written as text, because there may be ten thousand of them: only what is a text itself, or a list of numbers, is left to
 *  JSON.stringify(). */
function channelEntry(
  record: ChannelRecord,
  [near, far]: BothStatistics,
  { state, isWhole }: { readonly state?: "ended"; readonly isWhole: boolean },
): ListingEntry {
  const [dialler, service] = record.sides;
  const isSetUp = dialler.sealed && service.sealed;
  const details =
    `{"service":${record.serviceId},"state":"${state ?? (isSetUp ? "open" : "opening")}","rule":${quoted(record.rule)},` +
    `"seals":${isSetUp ? SEALS : "[]"},"direction":"${directionName(dialler.capacity, service.capacity)}",` +
    `"capacity":{"toService":${dialler.capacity},"toDialler":${service.capacity}},"peer":${peerText(service.owner)},` +
    `"toService":${JSON.stringify(directionStats(near, far))},"toDialler":${JSON.stringify(directionStats(far, near))}${isWhole ? `,"rights":${channelRights(record)}` : ""}}`;
  return makeEntry("channel", record.id, record.name, dialler.owner, details);
}

function channelRights({ sides: [dialler, service] }: ChannelRecord): string {
  return JSON.stringify({ dialler: sideRights(dialler, service), service: sideRights(service, dialler) });
}

function sideRights({ capacity, owner, rights }: ChannelSide, other: ChannelSide): object {
  const directions = [...(capacity > 0 ? ["send"] : []), ...(other.capacity > 0 ? ["receive"] : [])];
  return { directions, ...rightsText(owner, rights, MAX_GRANTS_BYTES) };
}

const SEALS = JSON.stringify(["shrink", "grow", "future-write", "seal"]);
let lastRule = { rule: "", text: '""' };

/** Mostly it is the same rule as for the channel before. */
function quoted(rule: string): string {
  if (rule !== lastRule.rule) lastRule = { rule, text: JSON.stringify(plainText(rule, MAX_RULE_BYTES)) };
  return lastRule.text;
}

function statsOf({ stats, capacity }: ChannelSide): SideStatistics {
  return stats?.read() ?? emptySideStatistics(capacity);
}

/** The descriptors of what would be taken next; the entry has to fit in a message whatever they are. */
function offerDetails({ bundles, program, published, taken }: OfferRecord, maxBytes: number): object {
  const [next] = bundles;
  const fds = next?.about.map(({ holdsOthers: _, exporter, ...known }) =>
    exporter === undefined ? known : { ...known, exporter: plainText(exporter, MAX_EXPORTER_BYTES) },
  );
  const kept = next?.keep === true;
  const facts = { program, kept, waiting: bundles.length, published, taken, fds: fds ?? [] };
  return { ...facts, ...ruleText("fdsRule", next?.rule, maxBytes) };
}

function listenerDetails(record: ListenerRecord): object {
  const counters = new DataView(record.counters.buffer, 0, 32);
  const read = (index: number): number => Number(counters.getBigUint64(index * 8, true));
  const fallback = [...record.fallbacks.values()].reduce((sum, count) => sum + count, 0);
  return {
    address: record.address,
    port: record.port,
    path: record.path,
    v6only: record.v6only,
    tcp: !record.noTcp,
    program: record.session.name,
    connections: { unix: read(0), tcp: read(1), fallback },
    traps: read(2),
    ...(read(2) > 0 ? { trapUs: Math.round(read(3) / read(2) / 100) / 10 } : {}),
    ...(fallback > 0 ? { fallbacks: Object.fromEntries(record.fallbacks) } : {}),
  };
}

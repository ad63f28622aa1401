/** A listing as tables, a section for each kind that there is. */
import { formatBytes, formatDuration } from "./numbers.ts";
import { describeOwner, type EntryRecord, type Listing, type Owner } from "./records.ts";
import { renderTable } from "./table.ts";

type Moved = { readonly bytes: number; readonly messages: number; readonly fill: number };

/** @param ownUid  the user who looks: owners of another one are marked */
export function renderListing(listing: Listing, ownUid: number): string {
  const sections = [
    section("Services", listing.services, SERVICE_HEAD, (record) => serviceRow(record, ownUid)),
    section("Channels", listing.channels, CHANNEL_HEAD, (record) => channelRow(record, ownUid)),
    section("Wrapped listeners", listing.listeners, LISTENER_HEAD, (record) => listenerRow(record, ownUid)),
    section("Relayed descriptors", listing.relayed, RELAYED_HEAD, (record) => relayedRow(record, ownUid)),
    section("Contexts", listing.contexts, PLAIN_HEAD, (record) => plainRow(record, ownUid)),
    section("Minted connections", listing.connections, CONNECTION_HEAD, (record) => connectionRow(record, ownUid)),
  ].filter((text) => text !== "");
  const things = sections.length === 0 ? ["Nothing is offered, connected or wrapped\n"] : sections;
  return `${[...things, brokerLine(listing.broker)].join("\n")}`;
}

function section(
  title: string,
  records: readonly EntryRecord[],
  head: readonly string[],
  row: (record: EntryRecord) => string[],
): string {
  return records.length === 0 ? "" : `${title}\n${renderTable(head, records.map(row))}`;
}

const PLAIN_HEAD = ["ID", "NAME", "OWNER"];
const RELAYED_HEAD = ["ID", "NAME", "OWNER", "WAITING", "TAKEN", "NEXT"];
const SERVICE_HEAD = ["ID", "NAME", "OWNER", "CALLED", "RING", "ACCEPTED"];
const CHANNEL_HEAD = ["ID", "NAME", "DIALLER", "SERVICE", "STATE", "TO SERVICE", "FILL", "TO DIALLER", "FILL"];
const CONNECTION_HEAD = ["ID", "MINTED BY", "CALLED", "GRANTS", "REVOKED"];
const LISTENER_HEAD = ["ID", "NAME", "OWNER", "UNIX", "TCP", "FALLBACK", "PATH"];

function plainRow({ id, name, owner }: EntryRecord, ownUid: number): string[] {
  return [String(id), name, describeOwner(owner, ownUid)];
}

function serviceRow(record: EntryRecord, ownUid: number): string[] {
  const ring = formatBytes(numberOf(record["capacity"]));
  return [...plainRow(record, ownUid), textOf(record["program"]), ring, textOf(record["accepted"])];
}

function channelRow(record: EntryRecord, ownUid: number): string[] {
  const peer = record["peer"] as Owner | undefined;
  const there = peer === undefined ? "?" : describeOwner(peer, ownUid);
  const directions = (["toService", "toDialler"] as const).flatMap((way) => directionCells(record, way));
  return [...plainRow(record, ownUid), there, textOf(record["state"]), ...directions];
}

/** A one-way channel has nothing to show for the other way. */
function directionCells(record: EntryRecord, way: "toService" | "toDialler"): string[] {
  const other = way === "toService" ? "to-dialler" : "to-service";
  if (record["direction"] === other) return ["-", "-"];
  const { bytes, fill } = { bytes: 0, fill: 0, ...(record[way] as Partial<Moved> | undefined) };
  return [formatBytes(bytes), formatBytes(fill)];
}

function listenerRow(record: EntryRecord, ownUid: number): string[] {
  const connections = (record["connections"] ?? {}) as Readonly<Record<string, unknown>>;
  const counts = ["unix", "tcp", "fallback"].map((kind) => textOf(connections[kind]));
  return [...plainRow(record, ownUid), ...counts, textOf(record["path"])];
}

function relayedRow(record: EntryRecord, ownUid: number): string[] {
  const next = Array.isArray(record["fds"])
    ? record["fds"].map((fd: { readonly type?: unknown }) => textOf(fd.type))
    : [];
  return [...plainRow(record, ownUid), textOf(record["waiting"]), textOf(record["taken"]), next.join(", ") || "-"];
}

function connectionRow(record: EntryRecord, ownUid: number): string[] {
  const { id, owner } = record;
  const called = textOf(record["program"]);
  const [grants, revoked] = [record["grants"], record["revoked"]].map((list) =>
    Array.isArray(list) ? shortList(list) : "",
  );
  const above = record["revokedAbove"] === true ? "above" : "";
  return [String(id), describeOwner(owner, ownUid), called, grants, revoked || above].map((cell) => cell || "-");
}

/** The first of them, and how many more: they may be dozens. */
function shortList([first, ...others]: readonly unknown[]): string {
  return others.length === 0 ? textOf(first ?? "") : `${textOf(first)} and ${others.length} more`;
}

function brokerLine(broker: EntryRecord | null): string {
  if (broker === null) return "";
  const { owner, sessions } = broker;
  const uptime = formatDuration(numberOf(broker["uptimeMs"]));
  const connected = sessions === undefined ? "" : `, ${textOf(sessions)} connected`;
  return `Broker ${textOf(broker["version"])}, pid ${owner.pid}, up ${uptime}${connected}\n`;
}

function numberOf(value: unknown): number {
  return typeof value === "number" ? value : 0;
}

function textOf(value: unknown): string {
  return value === undefined || value === null ? "-" : String(value);
}

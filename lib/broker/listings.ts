/** Answers `list`: entries are made as the peer reads them, so ten thousand channels cost neither side memory. */
import { FailureError } from "../errors.ts";
import type { ObjectId } from "../util/brand.ts";
import { authorize, type BrokerCore } from "./core.ts";
import type { GrantSet } from "./grants.ts";
import { eachInTurns } from "./in-turns.ts";
import { makeEntry, nameOf, recordEntry } from "./listing.ts";
import type { AnyRecord } from "./records.ts";
import type { Session } from "./session.ts";
import { whoIs } from "./who.ts";

const MAX_WAITING = 16;
/** Looked through in about the time that a request takes. */
const RECORDS_A_REQUEST = 512;
/** Of shmlink_listing_v1, from which on it tells of minted connections. */
const VERSION_OF_CONNECTIONS = 2;

/** @throws FailureError when too many listings of this session wait to be read, or when the policy hides the listing from this peer */
export function startListing(session: Session, object: ObjectId, selector: string): void {
  const { core } = session;
  authorize(core, session.owner, "list", "");
  if (session.output.waitingListings >= MAX_WAITING) {
    throw new FailureError("quota", `Cannot list: ${MAX_WAITING} listings wait for this client to read them`);
  }
  session.countAs(1 + Math.floor(core.registry.size / RECORDS_A_REQUEST));
  let next: Records | undefined;
  session.output.addListing(() => {
    next ??= begin(session, object, selector);
    const record = next();
    if (record === "later") return "later";
    if (record === undefined) {
      session.send(object, "shmlink_listing_v1", { kind: "done" });
      return "done";
    }
    if (isAlive(core, record)) session.send(object, "shmlink_listing_v1", recordEntry(record, selector !== ""));
    return "more";
  });
}

/** What there is when it is its turn: those that wait for their reader hold nothing. */
function begin(session: Session, object: ObjectId, selector: string): Records {
  const { core } = session;
  core.survival.sweep(core);
  const { grants } = session.owner;
  const maySee = (name: string): boolean => grants === undefined || grants.allows("inspect", name);
  const isNew = session.versionOf(object) >= VERSION_OF_CONNECTIONS;
  const known = selector === "" ? [...core.registry.all()] : core.registry.select(selector);
  const records = isNew ? known : known.filter(({ kind }) => kind !== "connection");
  const ended = records.length === 0 ? core.registry.recall(selector) : undefined;
  if (grants !== undefined && ended !== undefined)
    audit(session, selector, { found: 1, shown: maySee(ended.name) ? 1 : 0 });
  if (ended !== undefined && maySee(ended.name)) session.send(object, "shmlink_listing_v1", ended);
  if (selector === "") session.send(object, "shmlink_listing_v1", brokerEntry(core, grants !== undefined));
  return grants === undefined ? inOrder(records) : granted(session, grants, { records, selector });
}

/** The next one at each call, undefined behind the last. "later": it is still to be found out which they are. */
type Records = () => AnyRecord | undefined | "later";

function inOrder(records: readonly AnyRecord[]): Records {
  let index = 0;
  return () => records[index++];
}

/** Those of a minted connection that it may see: looked through at once, and the rest of them anew when something is revoked
 *  before they have been sent. */
function granted(
  session: Session,
  grants: GrantSet,
  { records, selector }: { readonly records: readonly AnyRecord[]; readonly selector: string },
): Records {
  let rest: readonly AnyRecord[] = records;
  let index = 0;
  let isLooking = false;
  let timesRevoked = -1;
  const look = (done: () => void): void => {
    const shown: AnyRecord[] = [];
    timesRevoked = grants.timesRevoked;
    isLooking = true;
    eachInTurns(session.core, session.owner, rest.slice(index), {
      act: (record) => {
        if (!session.ended && grants.allows("inspect", nameOf(record))) shown.push(record);
      },
      done: () => {
        if (session.ended) return;
        [rest, index, isLooking] = [shown, 0, false];
        done();
        session.output.touch();
      },
    });
  };
  look(() => audit(session, selector, { found: records.length, shown: rest.length }));
  return () => {
    if (!isLooking && timesRevoked !== grants.timesRevoked) look(() => undefined);
    return isLooking ? "later" : rest[index++];
  };
}

/** One line for each listing, however much is left out of it. The peer is not told: hidden is like empty. */
function audit({ core, owner }: Session, selector: string, { found, shown }: { found: number; shown: number }): void {
  if (found === 0) return;
  const what = selector === "" ? "inspect" : `inspect "${selector}"`;
  const leftOut = shown === found ? "" : `: ${found - shown} of ${found} left out, not granted to this connection`;
  const from = whoIs(owner);
  if (shown === 0) core.logger.warn(`Refused to ${what}${leftOut}`, from);
  else core.logger.info(`Used grant ${what}${leftOut}`, from);
}

/** A record may have ended while the listing waited for its reader. */
function isAlive(core: BrokerCore, record: AnyRecord): boolean {
  if (record.kind === "service") return core.registry.services.get(record.name) === record;
  if (record.kind === "channel") return core.registry.channels.has(record.id);
  if (record.kind === "relayed") return core.registry.offers.get(record.name) === record;
  if (record.kind === "context") return core.registry.contexts.has(record.id);
  if (record.kind === "connection") return core.registry.connections.has(record.session);
  return core.registry.listeners.has(record.id);
}

/** @param isMinted  who asks: how much there is of all kinds would tell him of what is hidden from him */
function brokerEntry(core: BrokerCore, isMinted: boolean): ReturnType<typeof makeEntry> {
  const { registry } = core;
  const who = { uid: core.uid, gid: 0, groups: [], cgroup: "", context: undefined };
  const owner = { ...who, pid: process.pid, exe: process.execPath };
  const counts = {
    sessions: core.sessions().size,
    services: registry.services.size,
    channels: registry.channels.size,
    listeners: registry.listeners.size,
    relayed: registry.offers.size,
    contexts: registry.contexts.size,
  };
  const details = {
    version: core.version,
    uptimeMs: Date.now() - core.startedAtMs,
    ...(isMinted ? {} : counts),
    idleMs: core.config.broker.idleMs,
  };
  return makeEntry("broker", 0, "broker", owner, JSON.stringify(details));
}

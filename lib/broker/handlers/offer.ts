/** shmlink_offer_v1 and shmlink_delivery_v1: descriptors that are passed on. */
import { fstat, isSameFile, type OwnedFd } from "../../../ffi/mod.ts";
import { FailureError } from "../../errors.ts";
import {
  type Requests,
  SHMLINK_MANAGER_V1_TAKE_FLAGS,
  SHMLINK_OFFER_V1_PUBLISH_FLAGS,
} from "../../protocol/shmlink-v1.gen.ts";
import { assertNever } from "../../util/assert-never.ts";
import type { ObjectId } from "../../util/brand.ts";
import { MAX_MESSAGE_FDS } from "../../wire/types.ts";
import { type Classified, classifyFd } from "../classify.ts";
import { authorize, type BrokerCore, chargeQuota, denied, failureNumber, wishOf } from "../core.ts";
import { exeOf } from "../listing.ts";
import { dropBundles, dropFds, handOut, matchUp, tellPublished, WAITING } from "../offers.ts";
import { accountKey } from "../quota.ts";
import type { Bundle, OfferRecord, TakeRecord } from "../records.ts";
import { backingOf } from "../rights.ts";
import type { Session } from "../session.ts";
import { stands } from "../standing.ts";
import { checkBits, checkName, invalidArgument } from "./checks.ts";

type Manager = Requests<OwnedFd>["shmlink_manager_v1"];

/** The name was refused, or the right to it was revoked, and who publishes has not heard it yet. */
const WITHDRAWN = new FailureError(
  "denied",
  "Cannot pass descriptors on: the name was refused, or the right to it was revoked",
);

/** @throws FailureError name-in-use, denied, quota; ProtocolError for a name that can never be valid */
export function openOffer(session: Session, request: Extract<Manager, { kind: "offer" }>): void {
  const { core, owner } = session;
  const { id: object, name } = request;
  checkName(name);
  const rule = authorize(core, owner, "offer", name);
  const rights = backingOf(owner, ["offer"], name);
  const holder = core.registry.offers.get(name);
  if (holder !== undefined) {
    if (isTakenOver(session, holder)) return takeOver(session, holder, object, { rule, rights });
    const { owner: other } = holder;
    const by = `process ${other.pid} (${exeOf(other) || "?"})`;
    throw new FailureError("name-in-use", `Cannot offer "${name}": ${by} does already; end it, or take another name`);
  }
  chargeQuota(core, owner, wishOf("offer", name), { services: 1 });
  const id = core.registry.nextId();
  const counters = { staged: [], stagedAbout: [], stagedSinceMs: 0, bundles: [], published: 0, taken: 0 };
  const who = { owner, program: session.name, rule, rights, session, object };
  const record: OfferRecord = { kind: "relayed", id, name, ...who, ...counters };
  core.registry.offers.set(name, record);
  session.handles.set(object, record);
  session.send(object, "shmlink_offer_v1", { kind: "registered", offerId: id });
}

/** Whether an offer that an earlier broker left is this process's own. */
function isTakenOver({ owner }: Session, { session, owner: earlier }: OfferRecord): boolean {
  return (
    session === undefined &&
    owner.grants === undefined &&
    owner.pid === earlier.pid &&
    accountKey(owner) === accountKey(earlier)
  );
}

function takeOver(
  session: Session,
  offer: OfferRecord,
  object: ObjectId,
  allowed: Pick<OfferRecord, "rule" | "rights">,
): void {
  session.core.survival.forgetOffer(offer);
  Object.assign(offer, { session, object, ...allowed });
  session.handles.set(object, offer);
  session.send(object, "shmlink_offer_v1", { kind: "registered", offerId: offer.id });
}

export function handleOffer(session: Session, object: ObjectId, request: Requests<OwnedFd>["shmlink_offer_v1"]): void {
  const handle = session.handles.get(object);
  const offer = handle?.kind === "relayed" ? handle : undefined;
  switch (request.kind) {
    case "destroy":
      return session.release(object);
    case "add":
      return offer === undefined ? request.fd.close() : add(session.core, offer, request.fd); // one that failed is late, not wrong
    case "publish":
      checkBits("flags", request.flags, SHMLINK_OFFER_V1_PUBLISH_FLAGS);
      return offer === undefined ? refuse(session, object, WITHDRAWN) : publish(session.core, offer, request.flags);
    default:
      return assertNever(request);
  }
}

/** A descriptor above the quota spoils the bundle, and publish then says so. */
function add(core: BrokerCore, offer: OfferRecord, fd: OwnedFd): void {
  if (offer.staged.length >= MAX_MESSAGE_FDS)
    throw invalidArgument(`Too many descriptors in a bundle: ${MAX_MESSAGE_FDS} is the most`);
  if (offer.refusal !== undefined) return fd.close();
  try {
    const about = examine(core, fd, offer); // not only when it is published: a connection that we hold would never end
    chargeQuota(core, offer.owner, wishOf("offer", offer.name), { fds: 1 });
    if (offer.staged.length === 0) {
      offer.stagedSinceMs = performance.now();
      core.deadlines.watch();
    }
    offer.staged.push(fd);
    offer.stagedAbout.push(about);
  } catch (error) {
    if (!(error instanceof FailureError)) throw error;
    fd.close();
    dropFds(core, offer, offer.staged.splice(0));
    offer.stagedAbout.length = 0;
    offer.refusal = error;
  }
}

function publish(core: BrokerCore, offer: OfferRecord, flags: number): void {
  const { session, object, name, owner } = offer;
  if (session === undefined) throw new TypeError("An offer without a session cannot be published to");
  const { staged: fds, stagedAbout: about } = offer;
  offer.staged = [];
  offer.stagedAbout = [];
  const spoilt = offer.refusal;
  offer.refusal = undefined;
  const now = (flags & SHMLINK_OFFER_V1_PUBLISH_FLAGS.now) !== 0;
  const again = restoredOf(offer, fds);
  const number = (now ? undefined : again[0]?.number) ?? offer.published + 1;
  let replaced: readonly Bundle[];
  try {
    if (spoilt !== undefined) throw spoilt;
    if (fds.length === 0)
      throw new FailureError("invalid", `Cannot offer "${name}": there is no descriptor to pass on`);
    const rule = authorize(core, owner, "offer", name, { fds: about });
    if (now && !core.registry.takers.has(name)) throw unpassable(name, "nobody waits for it");
    const keep = (flags & SHMLINK_OFFER_V1_PUBLISH_FLAGS.keep) !== 0;
    const quiet = (flags & SHMLINK_OFFER_V1_PUBLISH_FLAGS.quiet) !== 0;
    // What is handed out to everyone is replaced by what comes after it.
    replaced = offer.bundles[0]?.keep === true ? offer.bundles.splice(0) : takeOut(offer, again);
    offer.bundles.push({ number, fds, about, keep, quiet, rule });
  } catch (error) {
    dropFds(core, offer, fds);
    if (!(error instanceof FailureError)) throw error;
    return refuse(session, object, error);
  }
  if (!now) tellPublished(offer, number);
  matchUp(core, offer);
  const bundle = offer.bundles.at(-1);
  if (bundle?.number === number && offer.published < number) {
    dropBundles(core, offer, offer.bundles.splice(-1, 1, ...replaced));
    return refuse(session, object, unpassable(name, "none of those who have waited longest may have it"));
  }
  dropBundles(core, offer, replaced);
  if (bundle?.number !== number) return;
  // What a minted connection offers could be revoked by nobody once the grant has ended with this broker.
  if (owner.grants === undefined) core.survival.keepBundle(offer, bundle);
}

function unpassable(name: string, why: string): FailureError {
  return new FailureError("unknown-name", `Cannot pass on what is offered as "${name}": ${why}`);
}

function refuse(session: Session, object: ObjectId, { code, message }: FailureError): void {
  session.send(object, "shmlink_offer_v1", { kind: "refused", code: failureNumber(code), message });
}

/** Who offers again what an earlier broker had from him means the same bundle, not another one. */
function restoredOf({ bundles }: OfferRecord, fds: readonly OwnedFd[]): readonly Bundle[] {
  return bundles.filter((bundle) => bundle.restored === true && isSame(bundle.fds, fds));
}

function takeOut({ bundles }: OfferRecord, some: readonly Bundle[]): readonly Bundle[] {
  for (const bundle of some) bundles.splice(bundles.indexOf(bundle), 1);
  return some;
}

function isSame(one: readonly OwnedFd[], other: readonly OwnedFd[]): boolean {
  return (
    one.length === other.length && one.every((fd, index) => isSameFile(fd, process.pid, other[index]?.number ?? -1))
  );
}

/** @throws FailureError "denied" for what no policy can allow */
function examine(core: BrokerCore, fd: OwnedFd, { owner, name }: OfferRecord): Classified {
  const status = fstat(fd);
  const about = classifyFd(fd, status);
  core.closer.settleHow(fd, status, about.type);
  const why = core.ownSockets.has(fd, status) ? "it is a socket of the broker" : whyNever(about);
  if (why !== undefined) throw denied(core, owner, `offer a descriptor as "${name}"`, why);
  return about;
}

function whyNever({ holdsOthers, isPath }: Classified): string | undefined {
  if (holdsOthers === true) return "it holds or makes other descriptors, of which nothing is known";
  if (isPath === true) return "it names a file and is not open (O_PATH); open it for reading or writing";
  return undefined;
}

/** @throws FailureError unknown-name, denied, quota */
export function take(session: Session, request: Extract<Manager, { kind: "take" }>): void {
  const { core, owner } = session;
  const { id: object, name } = request;
  checkName(name);
  checkBits("flags", request.flags, SHMLINK_MANAGER_V1_TAKE_FLAGS);
  const record: TakeRecord = { kind: "take", name, session, object };
  const known = core.registry.offers.get(name);
  const offer = known !== undefined && stands(known, known.owner, "offer", name) ? known : undefined;
  const bundle = offer?.bundles[0];
  // Where there is something, the rules are asked about it when it is handed over, and that is enough.
  if (offer !== undefined && bundle !== undefined) return handOut(core, offer, bundle, record);
  authorize(core, owner, "take", name, offer === undefined ? {} : { target: offer.owner });
  if ((request.flags & SHMLINK_MANAGER_V1_TAKE_FLAGS.wait) === 0) {
    const what = offer === undefined ? "nobody offers this name" : "there is nothing to take at the moment";
    throw new FailureError("unknown-name", `Cannot take "${name}": ${what}`);
  }
  chargeQuota(core, owner, wishOf("take", name), WAITING);
  session.handles.set(object, record);
  core.registry.addTaker(record);
}

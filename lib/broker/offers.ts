/** Descriptors on their way from who offers to who takes: bundles in the order in which they came, takers likewise. */
import { type OwnedFd, SyscallError } from "../../ffi/mod.ts";
import { FailureError } from "../errors.ts";
import { isBehind, isFull, unread } from "./backlog.ts";
import { authorize, type BrokerCore, failureNumber, wishOf } from "./core.ts";
import { explainRefusal } from "./exhaustion.ts";
import { eachInTurns } from "./in-turns.ts";
import type { Charge } from "./quota.ts";
import type { Bundle, OfferRecord, TakeRecord } from "./records.ts";
import type { Session } from "./session.ts";
import { stands } from "./standing.ts";

/** What it costs to wait for a bundle, as long as that lasts: one bundle, or one revocation, is the end of all who do. */
export const WAITING: Charge = { services: 1 };

/** Hands out what there is to who waits for it, as long as there are both: one that is kept may be for thousands, and who
 *  comes before all have it need not wait. */
export function matchUp(core: BrokerCore, offer: OfferRecord): void {
  const waiting = core.registry.takers.get(offer.name);
  if (waiting === undefined) return;
  eachInTurns(core, offer.owner, waiting, { act: (take) => serve(core, offer, take) });
}

/** One who has waited, unless he does so no longer. @returns "enough" when there is nothing left to have */
function serve(core: BrokerCore, offer: OfferRecord, take: TakeRecord): "enough" | undefined {
  const bundle = offer.bundles[0];
  if (bundle === undefined || !stands(offer, offer.owner, "offer", offer.name)) return "enough";
  if (take.session.handles.get(take.object) !== take) return undefined;
  removeTaker(core, take);
  take.session.handles.delete(take.object);
  deliver(core, offer, bundle, take);
  return offer.bundles.length === 0 ? "enough" : undefined;
}

/** Nobody waits there any more. */
export function removeTaker(core: BrokerCore, take: TakeRecord): void {
  core.registry.removeTaker(take);
  core.quota.release(take.session.owner, WAITING);
}

/** Hands out what came first to who need not wait for it: where something is left, nobody waits. */
export function handOut(core: BrokerCore, offer: OfferRecord, bundle: Bundle, take: TakeRecord): void {
  deliver(core, offer, bundle, take);
  removeLeftOver(core, offer);
}

/** Of one that an earlier broker left nothing is left, and its owner has not come back. */
function removeLeftOver(core: BrokerCore, offer: OfferRecord): void {
  if (offer.session === undefined && offer.bundles.length === 0) removeOffer(core, offer);
}

/** One bundle to one taker; a taker that may not have it is told so, and the bundle stays. */
function deliver(core: BrokerCore, offer: OfferRecord, bundle: Bundle, take: TakeRecord): void {
  const { session, object } = take;
  let fds: OwnedFd[];
  try {
    const subject = { fds: bundle.about, target: offer.owner };
    authorize(core, session.owner, "take", offer.name, subject);
    if (isFull(session, bundle.fds.length))
      throw new FailureError("quota", unread(session, wishOf("take", offer.name)));
    fds = bundle.keep ? copyAll(core, offer, bundle.fds) : bundle.fds;
  } catch (error) {
    if (!(error instanceof FailureError)) throw error;
    return failTake(take, error);
  }
  const { pid, uid } = offer.owner;
  const taker = session.owner;
  // It is the taker's before anybody is told: who does not read what he is told may end with that, and all that he offers.
  offer.taken += 1;
  if (!bundle.keep) {
    offer.bundles.shift();
    core.survival.forgetBundle(offer, bundle);
    core.quota.release(offer.owner, { fds: fds.length });
  }
  if (bundle.number > offer.published) tellPublished(offer, bundle.number);
  // Who takes is mostly told last: on one processor that wakes him, and he is in nobody's way then.
  if (bundle.quiet !== true) tellTaken(offer, bundle, session);
  let index = 0;
  for (const fd of fds) {
    session.send(object, "shmlink_delivery_v1", { kind: "fd", fd, type: bundle.about[index]?.type ?? "other" });
    index += 1;
  }
  session.send(object, "shmlink_delivery_v1", { kind: "done", count: fds.length, pid, uid });
  core.logger.debug("Passed descriptors on", {
    name: offer.name,
    count: fds.length,
    from: pid,
    to: taker.pid,
    uid: taker.uid,
  });
}

/** The answer to publish: at once, or where a bundle is only for who waits, when one of them has it. */
export function tellPublished(offer: OfferRecord, number: number): void {
  offer.published = Math.max(offer.published, number);
  offer.session?.send(offer.object, "shmlink_offer_v1", { kind: "published", bundle: number });
}

/** Of a bundle that is kept there is no end to be told: nothing, while there is enough that its owner has not read. */
function tellTaken({ session, object }: OfferRecord, { number, keep }: Bundle, { owner: { pid, uid } }: Session): void {
  if (session === undefined || (keep && isBehind(session))) return;
  session.send(object, "shmlink_offer_v1", { kind: "taken", bundle: number, pid, uid });
}

export function failTake({ session, object }: TakeRecord, { code, message }: FailureError): void {
  session.send(object, "shmlink_delivery_v1", { kind: "failed", code: failureNumber(code), message });
}

/** @throws FailureError "exhausted", with none of them left open; "quota" where closing them does not keep up */
function copyAll(core: BrokerCore, { name, owner }: OfferRecord, fds: readonly OwnedFd[]): OwnedFd[] {
  const left = core.closer.copiesLeftOf(owner);
  const { maxFdsPerUser } = core.quota.limits;
  if (left > maxFdsPerUser)
    throw new FailureError(
      "quota",
      `Cannot take "${name}": ${left} copies of what user ${owner.uid} offers wait to be closed, limits.maxFdsPerUser is ${maxFdsPerUser}; try again`,
    );
  const copies = new DisposableStack();
  try {
    const made = fds.map((fd) => copies.use(core.closer.copy(fd, owner)));
    copies.move();
    return made;
  } catch (error) {
    copies.dispose();
    if (!(error instanceof SyscallError)) throw error;
    throw new FailureError("exhausted", `Cannot take "${name}": ${explainRefusal(error)}`, { cause: error });
  }
}

/** Forgets bundles and gives back what they cost. */
export function dropBundles(core: BrokerCore, offer: OfferRecord, bundles: readonly Bundle[]): void {
  for (const bundle of bundles) {
    core.survival.forgetBundle(offer, bundle);
    dropFds(core, offer, bundle.fds);
  }
}

export function dropFds(core: BrokerCore, offer: OfferRecord, fds: readonly OwnedFd[]): void {
  for (const fd of fds) fd.close();
  if (fds.length > 0) core.quota.release(offer.owner, { fds: fds.length });
}

/** Descriptors were added and not published in time: publish hears that, if it comes. */
export function spoil(core: BrokerCore, offer: OfferRecord, limitMs: number): void {
  dropFds(core, offer, offer.staged.splice(0));
  offer.stagedAbout.length = 0;
  const message = `Cannot offer "${offer.name}": the bundle was not published in time, broker.setUpMs is ${limitMs}`;
  offer.refusal = new FailureError("refused", message);
}

/** Withdraws the name and closes what nobody has taken. */
export function removeOffer(core: BrokerCore, offer: OfferRecord): void {
  if (core.registry.offers.get(offer.name) !== offer) return;
  core.registry.offers.delete(offer.name);
  core.survival.forgetOffer(offer);
  dropFds(core, offer, offer.staged.splice(0));
  dropBundles(core, offer, offer.bundles.splice(0));
  core.quota.release(offer.owner, { services: 1 });
}

/** What is written down of a thing that outlives the broker: JSON, beside its descriptors, read again by the next one. */
import type { Bundle, ChannelRecord, ChannelSide, ContextRecord, OfferRecord, Owner } from "../records.ts";
import { startTimeOf } from "./life.ts";

/** An owner as it is written down; `started` tells his process from another one with the same number. */
export type SavedOwner = Omit<Owner, "grants"> & { readonly started: string };
export type SavedSide = Pick<ChannelSide, "capacity" | "rights"> & { readonly owner: SavedOwner };
export type SavedChannel = Pick<ChannelRecord, "id" | "name" | "serviceId" | "rule"> & {
  readonly sides: [SavedSide, SavedSide];
};
export type SavedContext = Pick<ContextRecord, "id" | "name" | "identity" | "rule" | "accepted"> & {
  readonly owner: SavedOwner;
};
/** Of an owner who has no minted connection: what those offer is not carried on. */
export type SavedBundle = Pick<OfferRecord, "id" | "name" | "program"> &
  Pick<Bundle, "number" | "keep" | "quiet" | "about" | "rule"> & {
    readonly owner: SavedOwner;
    /** That allowed the name. */
    readonly nameRule: OfferRecord["rule"];
  };

/** A session's owner is one process for as long as it lasts: asked once, not for each of its channels. */
const STARTED: WeakMap<Owner, string> = new WeakMap();

function saveOwner(who: Owner): SavedOwner {
  const started = STARTED.get(who) ?? startTimeOf(who.pid);
  STARTED.set(who, started);
  const { grants: _, ...owner } = who;
  return { ...owner, started };
}

function saveSide({ owner, capacity, rights }: ChannelSide): SavedSide {
  return { owner: saveOwner(owner), capacity, rights };
}

export function saveChannel({ id, name, serviceId, rule, sides: [near, far] }: ChannelRecord): SavedChannel {
  return { id, name, serviceId, rule, sides: [saveSide(near), saveSide(far)] };
}

export function saveContext({ id, name, identity, rule, accepted, owner }: ContextRecord): SavedContext {
  return { id, name, identity, rule, accepted, owner: saveOwner(owner) };
}

export function saveBundle(offer: OfferRecord, { number, keep, quiet, about, rule }: Bundle): SavedBundle {
  const { id, name, program, rule: nameRule } = offer;
  return { id, name, program, nameRule, owner: saveOwner(offer.owner), number, keep, quiet, about, rule };
}

/** JSON has no undefined. */
export function loadOwner({ started: _, ...owner }: SavedOwner): Owner {
  return { ...owner, context: owner.context };
}

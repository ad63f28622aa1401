/**
 * What outlives the broker, under a service manager with a file descriptor store: the entries of channels that are whole,
 * contexts, and descriptors on offer. What an earlier broker left has no session; it goes when its process ends, when
 * its owner closes it (which the rings say), or when its owner comes back and takes it over.
 */
import type { OwnedFd } from "../../../ffi/mod.ts";
import { checkSealedRing, RingStats } from "../../channel/memfd.ts";
import { ringFileBytes } from "../../ring/layout.ts";
import type { ObjectId } from "../../util/brand.ts";
import { dropSide } from "../channels.ts";
import type { BrokerCore } from "../core.ts";
import { removeOffer } from "../offers.ts";
import type { Account } from "../quota.ts";
import type { Bundle, ChannelRecord, ChannelSide, ContextRecord, OfferRecord, Owner } from "../records.ts";
import type { Found, Keeper } from "./keeper.ts";
import { type Life, startTimeOf } from "./life.ts";

/** An owner as it is written down; `started` tells his process from another one with the same number. */
type SavedOwner = Omit<Owner, "grants"> & { readonly started: string };
type SavedSide = { readonly owner: SavedOwner; readonly capacity: number };
type SavedChannel = Pick<ChannelRecord, "id" | "name" | "serviceId" | "rule"> & {
  readonly sides: [SavedSide, SavedSide];
};
type SavedContext = Pick<ContextRecord, "id" | "name" | "identity" | "accepted"> & { readonly owner: SavedOwner };
type SavedBundle = Pick<OfferRecord, "id" | "name" | "program"> &
  Pick<Bundle, "number" | "keep" | "about"> & { readonly owner: SavedOwner };

/** In whose name what an earlier broker left is closed: not in that of anybody who is there now. */
const RESTORED: Account = { uid: 0, context: { engine: "shmlink", app: "restored", instance: "" } };
const FDS_OF_A_CHANNEL = 2;
const NOBODY = 0 as ObjectId; // never looked at: there is no session that it could be an object of

export class Survival implements Disposable {
  readonly #keeper: Keeper;
  readonly #life: Life;
  /** Records without a session. */
  readonly #channels: Set<ChannelRecord> = new Set();
  readonly #offers: Set<OfferRecord> = new Set();

  constructor(keeper: Keeper, life: Life) {
    this.#keeper = keeper;
    this.#life = life;
  }

  get isEnabled(): boolean {
    return this.#keeper.isEnabled;
  }

  /** Whether there is something of peers that are not connected. To be asked after sweep(). */
  get holdsSomething(): boolean {
    return this.#channels.size > 0 || this.#offers.size > 0;
  }

  /** Whether the channels of now are kept: else their rings need not be copied for it. */
  get hasRoom(): boolean {
    return this.#keeper.hasRoom(FDS_OF_A_CHANNEL);
  }

  /** A channel is whole. Its `copies` are closed when they are in the store, or cannot be put there. */
  keepChannel(record: ChannelRecord): void {
    const [near, far] = record.sides;
    const close = (): void => {
      for (const side of record.sides) {
        side.copy?.close();
        side.copy = undefined;
      }
    };
    if (near.copy === undefined || far.copy === undefined) return close();
    const save = (): SavedChannel => {
      const { id, name, serviceId, rule } = record;
      return { id, name, serviceId, rule, sides: [saveSide(near), saveSide(far)] };
    };
    if (!this.#keeper.put(`channel.${record.id}`, save, [near.copy, far.copy], close)) close();
  }

  forgetChannel(record: ChannelRecord): void {
    this.#channels.delete(record);
    this.#keeper.remove(`channel.${record.id}`);
  }

  /** At once: who made it may be gone a moment later. */
  keepContext(record: ContextRecord): void {
    const { id, name, identity, owner, listener, closeFd } = record;
    const save = (): SavedContext => ({ id, name, identity, accepted: record.accepted, owner: saveOwner(owner) });
    if (this.#keeper.put(`context.${id}`, save, [listener, closeFd])) this.#keeper.flush();
  }

  forgetContext({ id }: ContextRecord): void {
    this.#keeper.remove(`context.${id}`);
  }

  keepBundle({ id, name, program, owner }: OfferRecord, { number, keep, about, fds }: Bundle): void {
    const save = (): SavedBundle => ({ id, name, program, owner: saveOwner(owner), number, keep, about });
    this.#keeper.put(`bundle.${id}.${number}`, save, fds);
  }

  forgetBundle({ id }: OfferRecord, { number }: Bundle): void {
    this.#keeper.remove(`bundle.${id}.${number}`);
  }

  /** The offer has a session again, or has ended. */
  forgetOffer(record: OfferRecord): void {
    this.#offers.delete(record);
    record.unwatch?.();
    record.unwatch = undefined;
  }

  /** Makes records of what an earlier broker left. @param stored  taken */
  restore(core: BrokerCore, stored: ReadonlyMap<string, OwnedFd>): void {
    if (stored.size === 0) return;
    const guarded = [...stored].map(([name, fd]) => [name, core.closer.guard(fd, RESTORED)] as const);
    this.#keeper.restore(new Map(guarded), (found) => this.#adopt(core, found));
    const { channels, contexts, offers } = core.registry;
    core.logger.info(
      `Carried on from an earlier broker: ${channels.size} channels, ${contexts.size} contexts, ${offers.size} offers`,
    );
  }

  /** @returns whether it still stands for something; its descriptors are closed or a record's then */
  #adopt(core: BrokerCore, { key, value, fds }: Found): boolean {
    try {
      if (this.#restoreOne(core, key, value, fds)) return true;
    } catch (error) {
      core.logger.warn(`Cannot carry on "${key}" of an earlier broker: ${String(error)}`);
    }
    for (const fd of fds) fd.close();
    return false;
  }

  // The values are what save…() wrote, a version of the state file that we know.
  #restoreOne(core: BrokerCore, key: string, value: unknown, fds: readonly OwnedFd[]): boolean {
    if (key.startsWith("channel.")) return this.#restoreChannel(core, value as SavedChannel, fds);
    if (key.startsWith("context.")) return restoreContext(core, value as SavedContext, fds);
    if (key.startsWith("bundle.")) return this.#restoreBundle(core, value as SavedBundle, fds);
    return false;
  }

  #restoreChannel(
    core: BrokerCore,
    { id, name, serviceId, rule, sides }: SavedChannel,
    fds: readonly OwnedFd[],
  ): boolean {
    using built = new DisposableStack();
    const watches = built.use(new DisposableStack());
    const made = sides.map(({ owner, capacity }, index): ChannelSide => {
      const fd = fds[index];
      if (fd === undefined) throw new TypeError("a ring is missing");
      if (checkSealedRing(fd) !== capacity) throw new TypeError("a ring has another size");
      const stats = built.use(new RingStats(fd, capacity));
      const rest = {
        memfd: undefined,
        copy: undefined,
        session: undefined,
        object: NOBODY,
        sealed: true,
        waiting: undefined,
      };
      return { owner: loadOwner(owner), capacity, stats, ...rest };
    });
    const [near, far] = made;
    if (near === undefined || far === undefined || made.some(hasClosed)) return false;
    const record: ChannelRecord = {
      kind: "channel",
      id,
      name,
      serviceId,
      rule,
      sinceMs: performance.now(),
      sides: [near, far],
    };
    const end = (): void => dropSide(core, record, 0);
    for (const { owner } of sides) {
      const cancel = this.#life.watch(owner.pid, owner.started, end);
      if (cancel === undefined) return false;
      watches.defer(cancel);
    }
    built.move(); // the record's now
    record.unwatch = () => watches.dispose();
    for (const { owner, capacity } of made)
      core.quota.restore(owner, { channels: 1, sharedBytes: ringFileBytes(capacity) });
    core.registry.reserve(id);
    core.registry.channels.set(id, record);
    this.#channels.add(record);
    for (const fd of fds) fd.close(); // the manager has them
    return true;
  }

  #restoreBundle(core: BrokerCore, saved: SavedBundle, fds: readonly OwnedFd[]): boolean {
    const offer = core.registry.offers.get(saved.name) ?? this.#restoreOffer(core, saved);
    if (offer === undefined || offer.id !== saved.id) return false;
    const { number, keep, about } = saved;
    offer.bundles.push({ number, keep, about, fds: [...fds], restored: true });
    offer.published = Math.max(offer.published, number);
    core.quota.restore(offer.owner, { fds: fds.length });
    return true;
  }

  #restoreOffer(core: BrokerCore, { id, name, program, owner: saved }: SavedBundle): OfferRecord | undefined {
    const owner = loadOwner(saved);
    const counters = { staged: [], stagedAbout: [], stagedSinceMs: 0, bundles: [], published: 0, taken: 0 };
    const who = { owner, program, session: undefined, object: NOBODY };
    const record: OfferRecord = { kind: "relayed", id, name, ...who, ...counters };
    record.unwatch = this.#life.watch(owner.pid, saved.started, () => removeOffer(core, record));
    if (record.unwatch === undefined) return undefined;
    core.quota.restore(owner, { services: 1 });
    core.registry.reserve(id);
    core.registry.offers.set(name, record);
    this.#offers.add(record);
    return record;
  }

  /** Drops what its owner has closed meanwhile; a side that closes its end says so in its ring. */
  sweep(core: BrokerCore): void {
    for (const record of this.#channels) if (record.sides.some(hasClosed)) dropSide(core, record, 0);
  }

  /** The broker ends: what there is stays for the next one. */
  freeze(): void {
    this.#keeper.freeze();
  }

  [Symbol.dispose](): void {
    this.#keeper[Symbol.dispose]();
    this.#life[Symbol.dispose]();
  }
}

function hasClosed({ stats }: ChannelSide): boolean {
  const said = stats?.read();
  return said?.finished === true && said.gone;
}

/** A session's owner is one process for as long as it lasts: asked once, not for each of its channels. */
const STARTED: WeakMap<Owner, string> = new WeakMap();

function saveOwner(who: Owner): SavedOwner {
  const started = STARTED.get(who) ?? startTimeOf(who.pid);
  STARTED.set(who, started);
  const { grants: _, ...owner } = who;
  return { ...owner, started };
}

function saveSide({ owner, capacity }: ChannelSide): SavedSide {
  return { owner: saveOwner(owner), capacity };
}

/** JSON has no undefined. */
function loadOwner({ started: _, ...owner }: SavedOwner): Owner {
  return { ...owner, context: owner.context };
}

/** It lives until its close fd hangs up, whatever has become of who made it. */
function restoreContext(core: BrokerCore, saved: SavedContext, fds: readonly OwnedFd[]): boolean {
  const [listener, closeFd] = fds;
  if (listener === undefined || closeFd === undefined) return false;
  const { id, name, identity, accepted } = saved;
  const owner = loadOwner(saved.owner);
  core.serveContext({ kind: "context", id, name, identity, accepted, owner, listener, closeFd });
  core.quota.restore(owner, { contexts: 1 });
  core.registry.reserve(id);
  return true;
}

/**
 * What an earlier broker left, as records without a session: entries of channels, and offers. Each goes when its process
 * ends, when its owner closes it (which the rings say), or when its owner comes back and takes it over. A context is served
 * like any other.
 */
import type { OwnedFd } from "../../../ffi/mod.ts";
import { checkSealedRing, RingStats } from "../../channel/memfd.ts";
import { ringFileBytes } from "../../ring/layout.ts";
import type { ObjectId } from "../../util/brand.ts";
import { dropSide } from "../channel-end.ts";
import type { BrokerCore } from "../core.ts";
import { removeOffer } from "../offers.ts";
import type { ChannelRecord, ChannelSide, OfferRecord } from "../records.ts";
import type { Found } from "./keeper.ts";
import type { Life } from "./life.ts";
import { loadOwner, type SavedBundle, type SavedChannel, type SavedContext } from "./saved.ts";

const NOBODY = 0 as ObjectId; // never looked at: there is no session that it could be an object of

export class CarriedOn {
  readonly #life: Life;
  readonly #channels: Set<ChannelRecord> = new Set();
  readonly #offers: Set<OfferRecord> = new Set();

  constructor(life: Life) {
    this.#life = life;
  }

  get isEmpty(): boolean {
    return this.#channels.size === 0 && this.#offers.size === 0;
  }

  /** @returns whether it still stands for something; its descriptors are closed or a record's then */
  adopt(core: BrokerCore, { key, value, fds }: Found): boolean {
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
    const made = sides.map(({ owner, capacity, rights }, index): ChannelSide => {
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
      return { owner: loadOwner(owner), capacity, rights, stats, ...rest };
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
    const { number, keep, quiet, about, rule } = saved;
    offer.bundles.push({ number, keep, quiet, about, rule, fds: [...fds], restored: true });
    offer.published = Math.max(offer.published, number);
    core.quota.restore(offer.owner, { fds: fds.length });
    return true;
  }

  #restoreOffer(core: BrokerCore, saved: SavedBundle): OfferRecord | undefined {
    const { id, name, program, nameRule: rule } = saved;
    const owner = loadOwner(saved.owner);
    const counters = { staged: [], stagedAbout: [], stagedSinceMs: 0, bundles: [], published: 0, taken: 0 };
    const who = { owner, program, rule, rights: "own" as const, session: undefined, object: NOBODY };
    const record: OfferRecord = { kind: "relayed", id, name, ...who, ...counters };
    record.unwatch = this.#life.watch(owner.pid, saved.owner.started, () => removeOffer(core, record));
    if (record.unwatch === undefined) return undefined;
    core.quota.restore(owner, { services: 1 });
    core.registry.reserve(id);
    core.registry.offers.set(name, record);
    this.#offers.add(record);
    return record;
  }

  forgetChannel(record: ChannelRecord): void {
    this.#channels.delete(record);
  }

  /** The offer has a session again, or has ended. */
  forgetOffer(record: OfferRecord): void {
    this.#offers.delete(record);
    record.unwatch?.();
    record.unwatch = undefined;
  }

  /** Drops what its owner has closed meanwhile; a side that closes its end says so in its ring. */
  sweep(core: BrokerCore): void {
    for (const record of this.#channels) if (record.sides.some(hasClosed)) dropSide(core, record, 0);
  }
}

function hasClosed({ stats }: ChannelSide): boolean {
  const said = stats?.read();
  return said?.finished === true && said.gone;
}

/** It lives until its close fd hangs up, whatever has become of who made it. */
function restoreContext(core: BrokerCore, saved: SavedContext, fds: readonly OwnedFd[]): boolean {
  const [listener, closeFd] = fds;
  if (listener === undefined || closeFd === undefined) return false;
  const { id, name, identity, rule, accepted } = saved;
  const owner = loadOwner(saved.owner);
  core.serveContext({ kind: "context", id, name, identity, rule, accepted, owner, listener, closeFd });
  core.quota.restore(owner, { contexts: 1 });
  core.registry.reserve(id);
  return true;
}

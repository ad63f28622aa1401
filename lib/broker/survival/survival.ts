/**
 * What outlives the broker, under a service manager with a file descriptor store or with a holder: the entries of channels
 * that are whole, contexts, and descriptors on offer. Kept while they last, and carried on by the next broker.
 */
import type { OwnedFd } from "../../../ffi/mod.ts";
import { howMany } from "../../util/how-many.ts";
import type { BrokerCore } from "../core.ts";
import type { Account } from "../quota.ts";
import type { Bundle, ChannelRecord, ContextRecord, OfferRecord } from "../records.ts";
import { CarriedOn } from "./carried-on.ts";
import type { Keeper } from "./keeper.ts";
import type { Life } from "./life.ts";
import { saveBundle, saveChannel, saveContext } from "./saved.ts";

/** In whose name what an earlier broker left is closed: not in that of anybody who is there now. */
const RESTORED: Account = { uid: 0, context: { engine: "shmlink", app: "restored", instance: "" } };
const FDS_OF_A_CHANNEL = 2;

export class Survival implements Disposable {
  readonly #keeper: Keeper;
  readonly #life: Life;
  readonly #carriedOn: CarriedOn;

  constructor(keeper: Keeper, life: Life) {
    this.#keeper = keeper;
    this.#life = life;
    this.#carriedOn = new CarriedOn(life);
  }

  get isEnabled(): boolean {
    return this.#keeper.isEnabled;
  }

  /** Whether there is something of peers that are not connected. To be asked after sweep(). */
  get holdsSomething(): boolean {
    return !this.#carriedOn.isEmpty;
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
    const save = (): object => saveChannel(record);
    if (!this.#keeper.put(`channel.${record.id}`, save, [near.copy, far.copy], close)) close();
  }

  forgetChannel(record: ChannelRecord): void {
    this.#carriedOn.forgetChannel(record);
    this.#keeper.remove(`channel.${record.id}`);
  }

  /** At once: who made it may be gone a moment later. */
  keepContext(record: ContextRecord): void {
    const { id, listener, closeFd } = record;
    if (this.#keeper.put(`context.${id}`, () => saveContext(record), [listener, closeFd])) this.#keeper.flush();
  }

  forgetContext({ id }: ContextRecord): void {
    this.#keeper.remove(`context.${id}`);
  }

  keepBundle(offer: OfferRecord, bundle: Bundle): void {
    this.#keeper.put(`bundle.${offer.id}.${bundle.number}`, () => saveBundle(offer, bundle), bundle.fds);
  }

  forgetBundle({ id }: OfferRecord, { number }: Bundle): void {
    this.#keeper.remove(`bundle.${id}.${number}`);
  }

  /** The offer has a session again, or has ended. */
  forgetOffer(record: OfferRecord): void {
    this.#carriedOn.forgetOffer(record);
  }

  /** Makes records of what an earlier broker left. @param stored  taken */
  restore(core: BrokerCore, stored: ReadonlyMap<string, OwnedFd>): void {
    if (stored.size === 0) return;
    const guarded = [...stored].map(([name, fd]) => [name, core.closer.guard(fd, RESTORED)] as const);
    this.#keeper.restore(new Map(guarded), (found) => this.#carriedOn.adopt(core, found));
    const { channels, contexts, offers } = core.registry;
    const found = [howMany(channels.size, "channel"), howMany(contexts.size, "context"), howMany(offers.size, "offer")];
    core.logger.info(`Carried on from an earlier broker: ${found.join(", ")}`);
  }

  /** Drops what its owner has closed meanwhile. */
  sweep(core: BrokerCore): void {
    this.#carriedOn.sweep(core);
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

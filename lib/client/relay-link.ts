/** A connection to the broker for who passes descriptors on, and for who takes them. */
import { type BorrowedFd, OwnedFd } from "../../ffi/mod.ts";
import { SHMLINK_MANAGER_V1_TAKE_FLAGS, SHMLINK_OFFER_V1_PUBLISH_FLAGS } from "../protocol/shmlink-v1.gen.ts";
import type { ObjectId } from "../util/brand.ts";
import { MAX_MESSAGE_FDS } from "../wire/types.ts";
import { answerMs, checkFd, checkName } from "./arguments.ts";
import { ANSWER_MS, type WaitOutcome } from "./broker-socket.ts";
import { Delivery } from "./delivery.ts";
import { brokerGone, nobodyInTime } from "./failure.ts";
import { Offer, type OfferLink, type PublishOptions } from "./offer.ts";
import { RightsLink } from "./rights-link.ts";

export type TakeOptions = {
  /** How long to wait for something to be offered, -1 for as long as it takes; with 0, or without it, only what is there
   *  counts. */
  readonly waitMs?: number;
};

export abstract class RelayLink extends RightsLink {
  /** Opens a name under which descriptors are passed on; publish() then hands them out.
   *  @throws FailureError name-in-use, denied, quota */
  offer(name: string): Offer {
    checkName(name);
    return this.ask(() => this.#offer(name));
  }

  #offer(name: string): Offer {
    const id = this.connection.newObject("shmlink_offer_v1");
    const offer = new Offer(this.#offerLink(), id, name);
    this.sinks.set(id, (message) => offer.handle(message));
    this.requestNewest({ kind: "offer", id, name });
    this.answer(() => offer.settled, `the broker to offer "${name}"`);
    if (offer.failure === undefined) return offer;
    offer.close();
    throw offer.failure;
  }

  /** For an offer of now: with this broker it ends. */
  #offerLink(): OfferLink {
    const { generation } = this;
    return {
      publish: (object, fds, options) => {
        if (generation !== this.generation) throw brokerGone("offer descriptors any longer");
        this.#publish(object, fds, options);
      },
      answer: (until, what) => this.answer(until, what, true),
      forget: (object, name) => this.forget(object, name, generation),
    };
  }

  #publish(object: ObjectId, fds: readonly BorrowedFd[], { keep, now, quiet }: PublishOptions): void {
    if (fds.length < 1 || fds.length > MAX_MESSAGE_FDS)
      throw new RangeError(`Cannot offer ${fds.length} descriptors at a time: 1 to ${MAX_MESSAGE_FDS} is wanted`);
    const bits = SHMLINK_OFFER_V1_PUBLISH_FLAGS;
    const flags =
      (keep === true ? bits.keep : 0) |
      (now === true ? bits.now : 0) |
      (quiet === true && this.isBrokerNew ? bits.quiet : 0);
    const lent = fds.map((fd) => OwnedFd.lend(checkFd(fd)));
    try {
      for (const fd of lent) this.connection.request(object, "shmlink_offer_v1", { kind: "add", fd });
      this.connection.request(object, "shmlink_offer_v1", { kind: "publish", flags });
      this.connection.flush();
    } finally {
      this.#keepUnsent(lent);
    }
  }

  /** Mostly all are sent by now, and none was copied for it. */
  #keepUnsent(lent: readonly OwnedFd[]): void {
    try {
      for (const fd of lent) fd.keep();
    } catch (error) {
      for (const fd of lent) fd.close();
      this.close(); // the broker waits for descriptors that cannot be sent any more
      throw error;
    }
  }

  /** Takes what is offered under a name. @throws FailureError unknown-name, denied, quota, timeout */
  take(name: string, options: TakeOptions = {}): Delivery {
    const { waits, waitMs } = patience(options);
    return this.ask(() => {
      const delivery = this.requestDelivery(name, waits);
      const isSettled = (): boolean => delivery.settled;
      const outcome = waits ? this.wait(isSettled, waitMs) : this.waitBriefly(isSettled);
      if (outcome === "timeout") {
        delivery.withdraw(nobodyInTime(name));
        this.wait(isSettled, ANSWER_MS);
      }
      return finishTake(name, delivery, outcome);
    });
  }

  /** take() for an event loop; needs `wake: true` at connect. */
  async takeAsync(name: string, options: TakeOptions = {}): Promise<Delivery> {
    const { waits, waitMs } = patience(options);
    return await this.askAsync(async () => {
      const delivery = this.requestDelivery(name, waits);
      const isSettled = (): boolean => delivery.settled;
      const outcome = await this.waitAsync(isSettled, waitMs);
      if (outcome === "timeout") {
        delivery.withdraw(nobodyInTime(name));
        await this.waitAsync(isSettled, ANSWER_MS);
      }
      return finishTake(name, delivery, outcome);
    });
  }

  /** Asks for what is offered and returns at once; dispatch() until it is settled. @param wait  also for what comes later */
  requestDelivery(name: string, wait: boolean): Delivery {
    checkName(name);
    const { generation } = this;
    const id = this.connection.newObject("shmlink_delivery_v1");
    const delivery = new Delivery({
      forget: (settled) => this.forget(id, "shmlink_delivery_v1", generation, !settled),
      withdraw: (onGone) => this.leave(id, "shmlink_delivery_v1", generation, onGone),
    });
    this.sinks.set(id, (message) => delivery.handle(message));
    this.request({ kind: "take", id, name, flags: wait ? SHMLINK_MANAGER_V1_TAKE_FLAGS.wait : 0 });
    return delivery;
  }
}

/** One try takes as long as the broker does: what it has handed over by then would be lost. */
function patience({ waitMs }: TakeOptions): { readonly waits: boolean; readonly waitMs: number } {
  const given = waitMs === 0 ? undefined : waitMs;
  return { waits: given !== undefined, waitMs: answerMs(given, "waitMs") };
}

function finishTake(name: string, delivery: Delivery, outcome: WaitOutcome): Delivery {
  if (delivery.settled && delivery.failure === undefined) {
    delivery.finish();
    return delivery;
  }
  delivery[Symbol.dispose]();
  if (delivery.failure !== undefined) throw delivery.failure;
  if (outcome === "ended") throw brokerGone(`take "${name}"`);
  throw nobodyInTime(name);
}

/** A connection to the broker for who offers and dials services. Channels that are whole do not need it any more. */
import { type BorrowedFd, duplicateFd, type OwnedFd } from "../../ffi/mod.ts";
import type { Channel, Direction, EndOptions } from "../channel/channel.ts";
import { FailureError } from "../errors.ts";
import type { AnyEvent } from "../protocol/messages.ts";
import {
  SHMLINK_MANAGER_V1_DIRECTIONS,
  SHMLINK_MANAGER_V1_TAKE_FLAGS,
  SHMLINK_OFFER_V1_PUBLISH_FLAGS,
} from "../protocol/shmlink-v1.gen.ts";
import { isCapacity, MAX_CAPACITY, MIN_CAPACITY, NO_CAPACITY } from "../ring/layout.ts";
import type { ObjectId } from "../util/brand.ts";
import { CONTEXT_WORD_RULE, isContextWord, quoteWord } from "../util/context-word.ts";
import { checkMilliseconds } from "../util/milliseconds.ts";
import { isServiceName, quoteName, SERVICE_NAME_RULE } from "../util/service-name.ts";
import { DISPLAY_ID } from "../wire/object-map.ts";
import { MAX_MESSAGE_FDS } from "../wire/types.ts";
import { ANSWER_MS, brokerGone, type WaitOutcome } from "./broker-query.ts";
import { type ConnectOptions, connectWith } from "./connect.ts";
import { Delivery } from "./delivery.ts";
import { failureOf } from "./failure.ts";
import { type ContextOptions, type GrantSpec, Minted, rightsBits } from "./grant.ts";
import { Offer, type OfferLink, type PublishOptions } from "./offer.ts";
import { PendingChannel } from "./pending-channel.ts";
import { RenewedLink } from "./renewed-link.ts";
import { Service } from "./service.ts";
import { SpareRings } from "./spare-rings.ts";
import { UntilOffered } from "./until-offered.ts";

export type ListenOptions = EndOptions & {
  /** What we want to do in the channel: "both" unless given. A channel has the directions that both sides want and were
   *  granted; `channel.direction` tells. */
  readonly direction?: Direction;
  /** Bytes of our ring in each channel, a power of two; the broker's default without it. */
  readonly capacity?: number;
};

export type DialOptions = ListenOptions & {
  /** Longest wait for the other side to take its part in the set-up. */
  readonly timeoutMs?: number;
  /** How long to wait for somebody to offer the name, -1 for as long as it takes; without it somebody has to by now. */
  readonly waitMs?: number;
};

export type TakeOptions = {
  /** How long to wait for something to be offered, -1 for as long as it takes; without it only what is there counts. */
  readonly waitMs?: number;
};

type Directed = {
  readonly kind: "listen" | "dial";
  readonly id: ObjectId;
  readonly name: string;
  readonly capacity: number;
};

export type { ConnectOptions } from "./connect.ts";
export type { Entry } from "./entry.ts";

export class BrokerLink extends RenewedLink {
  readonly #services: Set<Service> = new Set();
  readonly spares: SpareRings = new SpareRings();
  /** Of a ring whose size we leave to the broker, once we have seen one. */
  #usualCapacity: number | undefined;

  /** Connects, starts a broker if there is none, and says hello. Blocks until the broker has answered.
   *  @throws FailureError "no-broker": none answers and none could be started */
  static override connect(options: ConnectOptions): BrokerLink {
    return connectWith(options, (fd) => new BrokerLink(fd, options));
  }

  /** Offers a service. @throws FailureError name-in-use, denied, quota */
  listen(name: string, options: ListenOptions = {}): Service {
    checkName(name);
    return this.ask(() => this.#listen(name, options));
  }

  #listen(name: string, options: ListenOptions): Service {
    this.#checkCapacity(options.capacity);
    const service = new Service(this, name, options);
    try {
      this.#announce(service);
      this.answer(() => service.settled, `the broker to offer "${name}"`);
      if (service.failure !== undefined) throw service.failure;
      return service;
    } catch (error) {
      service.close();
      throw error;
    }
  }

  protected override get offers(): boolean {
    return this.#services.size > 0;
  }

  protected override offerAgain(): readonly Service[] {
    const services = [...this.#services];
    for (const service of services) this.#announce(service);
    return services;
  }

  #announce(service: Service): void {
    const id = this.connection.newObject("shmlink_service_v1");
    service.moveTo(id);
    this.#services.add(service);
    this.sinks.set(id, (message) => {
      service.handle(message);
      if (service.failure !== undefined) this.#services.delete(service); // it is not asked for again
    });
    const { name, capacity, direction } = service;
    this.#requestDirected({ kind: "listen", id, name, capacity }, direction);
  }

  /** Without a wish the request is one that every broker knows. */
  #requestDirected(request: Directed, direction: Direction | undefined): void {
    if (direction === undefined || direction === "both") return this.requestNewest(request);
    const { send, receive } = SHMLINK_MANAGER_V1_DIRECTIONS;
    const directions = direction === "send" ? send : receive;
    this.requestNew({ ...request, kind: `${request.kind}_directed`, directions }, `${request.kind} in one direction`);
  }

  /** For a service that closes. */
  withdraw(service: Service, object: ObjectId, generation: number): void {
    this.#services.delete(service);
    this.forget(object, "shmlink_service_v1", generation);
  }

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
    this.request({ kind: "offer", id, name });
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
      answer: (until, what) => this.answer(until, what),
      forget: (object, name) => this.forget(object, name, generation),
    };
  }

  #publish(object: ObjectId, fds: readonly BorrowedFd[], { keep, now }: PublishOptions): void {
    if (fds.length < 1 || fds.length > MAX_MESSAGE_FDS)
      throw new RangeError(`Cannot offer ${fds.length} descriptors at a time: 1 to ${MAX_MESSAGE_FDS} is wanted`);
    const copies = fds.map((fd) => duplicateFd(fd));
    for (const fd of copies) this.connection.request(object, "shmlink_offer_v1", { kind: "add", fd });
    const bits = SHMLINK_OFFER_V1_PUBLISH_FLAGS;
    const flags = (keep === true ? bits.keep : 0) | (now === true ? bits.now : 0);
    this.connection.request(object, "shmlink_offer_v1", { kind: "publish", flags });
  }

  /** Makes a connection that has these rights and no other; its descriptor is to be handed to whom it is for.
   *  @throws FailureError "denied" for more than this connection may pass on, "quota" */
  mint(grants: readonly GrantSpec[]): Minted {
    return this.ask(() => this.#mint(grants));
  }

  #mint(grants: readonly GrantSpec[]): Minted {
    const { generation } = this;
    const id = this.connection.newObject("shmlink_grant_v1");
    const minted = new Minted({
      revoke: (rights, name) => {
        if (generation !== this.generation) return; // what was granted has ended with that broker
        this.connection.request(id, "shmlink_grant_v1", { kind: "revoke", rights, name });
        this.sync();
      },
      forget: () => this.forget(id, "shmlink_grant_v1", generation),
    });
    this.sinks.set(id, (message) => minted.handle(message));
    this.request({ kind: "mint", id });
    for (const { rights, name } of grants)
      this.connection.request(id, "shmlink_grant_v1", { kind: "add", rights: rightsBits(rights), name });
    this.connection.request(id, "shmlink_grant_v1", { kind: "connect" });
    this.answer(() => minted.settled, "the broker to make a connection");
    if (minted.failure === undefined) return minted;
    minted.close();
    throw minted.failure;
  }

  /** Gives a listening socket an identity, until the other end of `closeFd` is closed. Both are lent.
   *  @throws FailureError "denied" within a context, or by the policy; "quota"  @returns its id in listings */
  createContext(options: ContextOptions): number {
    const { engine, app, instance } = options;
    for (const [key, word] of Object.entries({ engine, app, instance }))
      if (!isContextWord(word))
        throw new FailureError("invalid", `Cannot use ${key} ${quoteWord(word)}: ${CONTEXT_WORD_RULE}`);
    return this.ask(() => this.#createContext(options));
  }

  #createContext(options: ContextOptions): number {
    const id = this.connection.newObject("shmlink_context_v1");
    let outcome: number | FailureError | undefined;
    this.sinks.set(id, ({ event }) => {
      if (event.kind === "registered" && "contextId" in event) outcome = event.contextId;
      else if (event.kind === "failed") outcome = failureOf(event.code, event.message);
    });
    const { engine, app, instance } = options;
    const [listenFd, closeFd] = [duplicateFd(options.listener), duplicateFd(options.closeFd)];
    this.request({ kind: "create_context", id, listenFd, closeFd, engine, app, instance });
    this.answer(() => outcome !== undefined, "the broker to create a context");
    this.forget(id, "shmlink_context_v1", this.generation);
    if (typeof outcome !== "number") throw outcome ?? new Error("A context was neither made nor refused");
    return outcome;
  }

  /** Waits until the broker has handled everything that was sent so far. */
  sync(): void {
    const callback = this.connection.newObject("wl_callback");
    let done = false;
    this.sinks.set(callback, () => {
      done = true;
    });
    this.connection.request(DISPLAY_ID, "wl_display", { kind: "sync", callback });
    this.answer(() => done, "the broker to catch up");
    this.sinks.delete(callback);
  }

  /** Takes what is offered under a name. @throws FailureError unknown-name, denied, quota, timeout */
  take(name: string, options: TakeOptions = {}): Delivery {
    const waitMs = answerMs(options.waitMs, "waitMs");
    return this.ask(() => {
      const delivery = this.requestDelivery(name, options.waitMs !== undefined);
      return finishTake(
        name,
        delivery,
        this.wait(() => delivery.settled, waitMs),
      );
    });
  }

  /** take() for an event loop; needs `wake: true` at connect. */
  async takeAsync(name: string, options: TakeOptions = {}): Promise<Delivery> {
    const waitMs = answerMs(options.waitMs, "waitMs");
    return await this.askAsync(async () => {
      const delivery = this.requestDelivery(name, options.waitMs !== undefined);
      return finishTake(name, delivery, await this.waitAsync(() => delivery.settled, waitMs));
    });
  }

  /** Asks for what is offered and returns at once; dispatch() until it is settled. @param wait  also for what comes later */
  requestDelivery(name: string, wait: boolean): Delivery {
    checkName(name);
    const { generation } = this;
    const id = this.connection.newObject("shmlink_delivery_v1");
    const delivery = new Delivery((settled) => this.forget(id, "shmlink_delivery_v1", generation, !settled));
    this.sinks.set(id, (message) => delivery.handle(message));
    this.request({ kind: "take", id, name, flags: wait ? SHMLINK_MANAGER_V1_TAKE_FLAGS.wait : 0 });
    return delivery;
  }

  /** Opens a channel to a service and waits until it is whole.
   *  @throws FailureError unknown-name, denied, quota, gone, refused, timeout */
  dial(name: string, options: DialOptions = {}): Channel {
    const untilOffered = new UntilOffered(options.waitMs ?? 0);
    for (;;) {
      try {
        return this.#dialOnce(name, options);
      } catch (error) {
        this.wait(() => false, untilOffered.pause(error));
      }
    }
  }

  /** dial() for an event loop; needs `wake: true` at connect. */
  async dialAsync(name: string, options: DialOptions = {}): Promise<Channel> {
    const untilOffered = new UntilOffered(options.waitMs ?? 0);
    for (;;) {
      try {
        return await this.#dialOnceAsync(name, options);
      } catch (error) {
        await this.waitAsync(() => false, untilOffered.pause(error));
      }
    }
  }

  #dialOnce(name: string, options: DialOptions): Channel {
    const timeoutMs = answerMs(options.timeoutMs, "timeoutMs");
    return this.ask(() => {
      const pending = this.#startDial(name, options);
      const outcome = this.wait(() => pending.outcome !== undefined, timeoutMs);
      return this.#finishDial(pending, outcome, name);
    });
  }

  async #dialOnceAsync(name: string, options: DialOptions): Promise<Channel> {
    const timeoutMs = answerMs(options.timeoutMs, "timeoutMs");
    return await this.askAsync(async () => {
      const pending = this.#startDial(name, options);
      const outcome = await this.waitAsync(() => pending.outcome !== undefined, timeoutMs);
      return this.#finishDial(pending, outcome, name);
    });
  }

  #checkCapacity(capacity = 0): void {
    const max = this.welcome?.maxCapacity ?? MAX_CAPACITY;
    if (capacity === 0 || (isCapacity(capacity) && capacity <= max)) return;
    const wanted = `a power of two from ${MIN_CAPACITY} to ${max} is wanted; "maxCapacityBytes" in the broker's configuration sets the limit`;
    throw new FailureError("invalid", `Cannot use a ring of ${capacity} bytes: ${wanted}`);
  }

  #startDial(name: string, options: DialOptions): PendingChannel {
    checkName(name);
    this.#checkCapacity(options.capacity);
    const id = this.connection.newObject("shmlink_channel_v1");
    const pending = this.track(id, name, options, (capacity) => {
      if (options.capacity === undefined) this.#usualCapacity = capacity;
    });
    const isOneWay = options.direction === "receive";
    const capacity = isOneWay ? NO_CAPACITY : (options.capacity ?? this.#usualCapacity);
    if (capacity !== undefined) this.provideSpares(capacity, 1);
    this.#requestDirected({ kind: "dial", id, name, capacity: options.capacity ?? 0 }, options.direction);
    return pending;
  }

  #finishDial(pending: PendingChannel, outcome: WaitOutcome, name: string): Channel {
    if (pending.outcome !== undefined) return pending.take();
    pending.cancel();
    if (outcome === "ended") throw brokerGone(`dial "${name}"`);
    throw new FailureError("timeout", `Cannot dial "${name}": the other side did not answer in time`);
  }

  /** Follows the set-up of a channel whose object is `id`. */
  track(id: ObjectId, name: string, options: EndOptions, learn: (capacity: number) => void): PendingChannel {
    const pending = new PendingChannel(this, id, name, options, learn);
    this.sinks.set(id, (message) => pending.handle(message));
    return pending;
  }

  /** Sees to it that the broker has so many rings of this size for us, as far as it takes them. */
  provideSpares(capacity: number, count: number): void {
    if (!this.isBrokerNew || this.ended) return;
    this.spares.provide(capacity, count, (serial, memfd) => this.requestNewest({ kind: "spare", serial, memfd }));
  }

  protected override managerSaid({ event }: AnyEvent<OwnedFd>): void {
    if (event.kind === "spare_dropped") this.spares.drop(event.serial);
  }

  /** Who gave a channel up does not get back the ring that was ready for it. */
  protected override wasDropped({ event }: AnyEvent<OwnedFd>): void {
    if (event.kind === "open") this.spares.drop(event.serial);
  }

  protected override adopt(fd: OwnedFd): void {
    super.adopt(fd);
    this.spares.clear();
  }

  override close(): void {
    super.close();
    this.spares.clear();
  }

  /** Queues "mapped" for a channel. */
  confirmMapped(id: ObjectId): void {
    this.connection.request(id, "shmlink_channel_v1", { kind: "mapped" });
    this.connection.flush();
  }
}

function answerMs(given: number | undefined, name: string): number {
  return given === undefined ? ANSWER_MS : checkMilliseconds(given, name);
}

/** What no broker takes is not worth a connection. @throws FailureError "invalid" */
function checkName(name: string): void {
  if (isServiceName(name)) return;
  throw new FailureError("invalid", `Cannot use service name ${quoteName(name)}: ${SERVICE_NAME_RULE}`);
}

function finishTake(name: string, delivery: Delivery, outcome: WaitOutcome): Delivery {
  if (outcome === "done" && delivery.failure === undefined) {
    delivery.finish();
    return delivery;
  }
  delivery[Symbol.dispose]();
  if (delivery.failure !== undefined) throw delivery.failure;
  if (outcome === "ended") throw brokerGone(`take "${name}"`);
  throw new FailureError("timeout", `Cannot take "${name}": nobody offered anything in time`);
}

/** A connection to the broker for who dials services: channels, and the rings that are kept ready for them. */
import { type OwnedFd, SyscallError } from "../../ffi/mod.ts";
import type { Channel, Direction, EndOptions } from "../channel/channel.ts";
import { checkListenOptions } from "../channel/options.ts";
import { FailureError } from "../errors.ts";
import type { AnyEvent } from "../protocol/messages.ts";
import { SHMLINK_MANAGER_V1_DIRECTIONS } from "../protocol/shmlink-v1.gen.ts";
import { isCapacity, MAX_CAPACITY, MIN_CAPACITY, NO_CAPACITY } from "../ring/layout.ts";
import type { ObjectId } from "../util/brand.ts";
import { answerMs, checkName } from "./arguments.ts";
import type { WaitOutcome } from "./broker-socket.ts";
import { brokerGone } from "./failure.ts";
import { PendingChannel } from "./pending-channel.ts";
import { RelayLink } from "./relay-link.ts";
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

/** A request for a service or a channel, before its directions. */
type Directed = {
  readonly kind: "listen" | "dial";
  readonly id: ObjectId;
  readonly name: string;
  readonly capacity: number;
};

export abstract class ChannelLink extends RelayLink {
  readonly spares: SpareRings = new SpareRings();
  /** Of a ring whose size we leave to the broker, once we have seen one. */
  #usualCapacity: number | undefined;
  /** With a ring of our own whose size we knew. */
  #dials = 0;

  /** Opens a channel to a service and waits until it is whole.
   *  @throws FailureError unknown-name, denied, quota, gone, refused, timeout; TypeError for an option that there is not */
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

  protected checkCapacity(capacity = 0): void {
    const max = this.welcome?.maxCapacity ?? MAX_CAPACITY;
    if (capacity === 0 || (isCapacity(capacity) && capacity <= max)) return;
    const wanted = `a power of two from ${MIN_CAPACITY} to ${max} is wanted; "maxCapacityBytes" in the broker's configuration sets the limit`;
    throw new FailureError("invalid", `Cannot use a ring of ${capacity} bytes: ${wanted}`);
  }

  #startDial(name: string, options: DialOptions): PendingChannel {
    checkName(name);
    checkListenOptions(options);
    this.checkCapacity(options.capacity);
    const id = this.connection.newObject("shmlink_channel_v1");
    const pending = this.track(id, name, options, (capacity) => {
      if (options.capacity === undefined) this.#usualCapacity = capacity;
    });
    const isOneWay = options.direction === "receive";
    const capacity = isOneWay ? NO_CAPACITY : (options.capacity ?? this.#usualCapacity);
    if (capacity !== undefined) {
      this.provideSpares(capacity, 1);
      this.#dials += 1;
      if (this.#dials > 1) pending.prepareNext(() => this.provideSpares(capacity, 1));
    }
    this.requestDirected({ kind: "dial", id, name, capacity: options.capacity ?? 0 }, options.direction);
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

  /** Without a wish the request is one that every broker knows. */
  protected requestDirected(request: Directed, direction: Direction | undefined): void {
    if (direction === undefined || direction === "both") return this.requestNewest(request);
    const { send, receive } = SHMLINK_MANAGER_V1_DIRECTIONS;
    const directions = direction === "send" ? send : receive;
    this.requestNew({ ...request, kind: `${request.kind}_directed`, directions }, `${request.kind} in one direction`);
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

  /** Of a channel that has ended. What is made ready for the next one goes in one piece with that.
   *  @param prepareNext  queues it, where a next one is likely */
  forgetChannel(id: ObjectId, generation: number, prepareNext: (() => void) | undefined): void {
    const isNext = prepareNext !== undefined && generation === this.generation && !this.ended;
    this.forget(id, "shmlink_channel_v1", generation, !isNext);
    if (!isNext) return;
    try {
      prepareNext();
      this.connection.flush();
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error; // the broker is gone
    }
  }

  /** Queues "mapped" for a channel. */
  confirmMapped(id: ObjectId): void {
    this.connection.request(id, "shmlink_channel_v1", { kind: "mapped" });
    this.connection.flush();
  }
}

/** A service that we offer: a queue of channels that others dialled. It outlives the broker: see ConnectOptions. */
import type { OwnedFd } from "../../ffi/mod.ts";
import type { Channel, Direction, EndOptions } from "../channel/channel.ts";
import type { FailureError } from "../errors.ts";
import type { AnyEvent } from "../protocol/messages.ts";
import type { ObjectId } from "../util/brand.ts";
import type { BrokerLink } from "./broker-link.ts";
import { failureOf } from "./failure.ts";
import type { PendingChannel } from "./pending-channel.ts";

/** Rings that are kept ready for those who dial next. */
const SPARES = 2;

type ServiceOptions = EndOptions & { readonly capacity?: number; readonly direction?: Direction };

export class Service implements Disposable {
  readonly name: string;
  id = 0;
  /** Why it is not, or no longer, offered. */
  failure: FailureError | undefined;
  readonly #link: BrokerLink;
  /** Of the broker's request, 0 for its default. */
  readonly capacity: number;
  readonly direction: Direction | undefined;
  readonly #options: EndOptions;
  #object: ObjectId | undefined;
  #generation = -1;
  #pending: PendingChannel[] = [];
  /** Of our last ring: the next one is likely to be like it. */
  #ringCapacity: number | undefined;
  #lacksSpares = false;
  /** With a ring whose size we knew. */
  #channels = 0;
  #closed = false;

  constructor(link: BrokerLink, name: string, options: ServiceOptions) {
    this.#link = link;
    this.name = name;
    this.capacity = options.capacity ?? 0;
    this.direction = options.direction;
    this.#options = options;
  }

  /** As a broker knows it; each by another object. Channels that are whole stay; those that were on their way are not. */
  moveTo(object: ObjectId): void {
    this.#object = object;
    this.#generation = this.#link.generation;
    this.id = 0;
    this.#lacksSpares = true; // the broker before had them
    for (const pending of this.#pending) pending.cancel();
    this.#pending = this.#pending.filter(({ outcome }) => !(outcome instanceof Error));
  }

  /** Whether the broker has answered. */
  get settled(): boolean {
    return this.id !== 0 || this.failure !== undefined;
  }

  handle(message: AnyEvent<OwnedFd>): void {
    if (message.interface !== "shmlink_service_v1") return;
    const { event } = message;
    if (event.kind === "registered") this.id = event.serviceId;
    else if (event.kind === "failed") this.failure = failureOf(event.code, event.message);
    else {
      const learn = (capacity: number): void => {
        this.#ringCapacity = capacity;
        this.#lacksSpares = true;
      };
      const pending = this.#link.track(event.channel, this.name, this.#options, learn);
      this.#pending.push(pending);
      this.#channels += 1;
      if (this.#channels > 1) pending.prepareNext(this.#prepareUnlessBusy);
    }
  }

  readonly #prepareUnlessBusy = (): void => {
    if (!this.#isWaitedFor) this.prepare();
  };

  /** For who waits otherwise than in accept(), before he does: has rings ready for who dials next, since who was dialled will
   *  be dialled again. Not before what was dialled is served, and not again because nobody came and the broker let go of
   *  them. */
  prepare(): void {
    if (!this.#lacksSpares || this.#ringCapacity === undefined || this.#closed) return;
    this.#link.provideSpares(this.#ringCapacity, SPARES);
    this.#lacksSpares = false;
  }

  /** A channel that is whole, if there is one now. Diallers that gave up are passed over. */
  tryAccept(): Channel | undefined {
    for (let index = 0; index < this.#pending.length; ) {
      const outcome = this.#pending[index]?.outcome;
      if (outcome === undefined) index += 1;
      else {
        this.#pending.splice(index, 1);
        if (!(outcome instanceof Error)) return outcome;
      }
    }
    return undefined;
  }

  get #hasChannel(): boolean {
    return this.#pending.some(({ outcome }) => outcome !== undefined && !(outcome instanceof Error));
  }

  /** Waits for a dialler. @param timeoutMs  -1 for no limit
   *  @returns undefined when the time is over, the right to the name was revoked, or the broker has ended and the connection
   *  does not come back
   *  @throws FailureError, ProtocolError when the next broker refuses the name or us */
  accept(timeoutMs = -1): Channel | undefined {
    const left = countdown(timeoutMs);
    for (;;) {
      if (!this.#isWaitedFor) this.prepare();
      const outcome = this.#link.wait(() => this.#isWaitedFor, left());
      const channel = this.tryAccept();
      if (channel !== undefined) return channel;
      if (this.#isOver()) return undefined;
      if (outcome === "timeout" || (outcome === "ended" && !this.#link.renewNow(left()))) return undefined;
    }
  }

  /** accept() for an event loop; needs `wake: true` at connect. */
  async acceptAsync(timeoutMs = -1): Promise<Channel | undefined> {
    const left = countdown(timeoutMs);
    for (;;) {
      if (!this.#isWaitedFor) this.prepare();
      const outcome = await this.#link.waitAsync(() => this.#isWaitedFor, left());
      const channel = this.tryAccept(); // another acceptAsync() may have been faster
      if (channel !== undefined) return channel;
      if (this.#isOver()) return undefined;
      if (outcome === "timeout" || (outcome === "ended" && !(await this.#link.renew(left())))) return undefined;
    }
  }

  /** Whether nobody can dial any more: what was registered, and has failed since, was revoked. @throws FailureError of a refusal */
  #isOver(): boolean {
    if (this.failure !== undefined && this.id === 0) throw this.failure;
    return this.failure !== undefined;
  }

  get #isWaitedFor(): boolean {
    return this.#hasChannel || this.failure !== undefined;
  }

  /** Channels as they come, until the service ends, its right is revoked, or the broker ends and the connection does not come back. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Channel> {
    while (!this.#closed) {
      const channel = await this.acceptAsync();
      if (channel === undefined) return;
      yield channel;
    }
  }

  /** Withdraws the name; channels that are up stay up. Safe to call twice. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const pending of this.#pending.splice(0)) {
      if (pending.outcome === undefined) pending.cancel();
      else if (!(pending.outcome instanceof Error)) pending.outcome.close();
    }
    if (this.#object !== undefined) this.#link.withdraw(this, this.#object, this.#generation);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** What is left of a time, in ms; -1 stays -1. */
function countdown(timeoutMs: number): () => number {
  if (timeoutMs < 0) return () => -1;
  const deadline = performance.now() + timeoutMs;
  return () => Math.max(deadline - performance.now(), 0);
}

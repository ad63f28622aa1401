/** A service that we offer: a queue of channels that others dialled. */
import type { OwnedFd } from "../../ffi/mod.ts";
import type { Channel, EndOptions } from "../channel/channel.ts";
import type { FailureError } from "../errors.ts";
import type { AnyEvent } from "../protocol/messages.ts";
import type { ObjectId } from "../util/brand.ts";
import type { BrokerLink } from "./broker-link.ts";
import { failureOf } from "./failure.ts";
import type { PendingChannel } from "./pending-channel.ts";

export class Service implements Disposable {
  readonly name: string;
  id = 0;
  failure: FailureError | undefined;
  readonly #link: BrokerLink;
  readonly #object: ObjectId;
  readonly #options: EndOptions;
  readonly #pending: PendingChannel[] = [];
  #closed = false;

  constructor(link: BrokerLink, object: ObjectId, name: string, options: EndOptions) {
    this.#link = link;
    this.#object = object;
    this.#options = options;
    this.name = name;
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
    else this.#pending.push(this.#link.track(event.channel, this.name, this.#options));
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
   *  @returns undefined when the time is over or the broker has ended (see link.ended) */
  accept(timeoutMs = -1): Channel | undefined {
    const outcome = this.#link.wait(() => this.#hasChannel, timeoutMs);
    return outcome === "done" ? this.tryAccept() : undefined;
  }

  /** accept() for an event loop; needs `wake: true` at connect. */
  async acceptAsync(timeoutMs = -1): Promise<Channel | undefined> {
    for (;;) {
      const outcome = await this.#link.waitAsync(() => this.#hasChannel, timeoutMs);
      const channel = outcome === "done" ? this.tryAccept() : undefined;
      if (channel !== undefined || outcome !== "done") return channel; // else another acceptAsync() was faster
    }
  }

  /** Channels as they come, until the service or the broker ends. */
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
    this.#link.forget(this.#object, "shmlink_service_v1");
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

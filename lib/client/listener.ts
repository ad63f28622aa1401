/** A wrapped TCP listener in the broker's registry. */
import type { BorrowedFd, OwnedFd } from "../../ffi/mod.ts";
import type { FailureError } from "../errors.ts";
import type { AnyEvent } from "../protocol/messages.ts";
import type { ObjectId } from "../util/brand.ts";
import type { BrokerQuery } from "./broker-query.ts";
import { failureOf } from "./failure.ts";

export type ListenerOptions = {
  readonly address: string;
  readonly port: number;
  readonly path: string;
  /** SHMLINK_MANAGER_V1_LISTENER_FLAGS. */
  readonly flags: number;
  /** The process that listens. */
  readonly pid: number;
  /** Sealed memfd with three 64-bit counters; lent. */
  readonly counters: BorrowedFd;
};

export class Listener implements Disposable {
  id = 0;
  failure: FailureError | undefined;
  readonly #link: BrokerQuery;
  readonly #object: ObjectId;
  readonly #generation: number;
  readonly #onRevoked: (failure: FailureError) => void;
  #closed = false;

  /** @param onRevoked  hears that it is not registered any more */
  constructor(link: BrokerQuery, object: ObjectId, onRevoked: (failure: FailureError) => void) {
    this.#onRevoked = onRevoked;
    this.#link = link;
    this.#object = object;
    this.#generation = link.generation;
  }

  get settled(): boolean {
    return this.id !== 0 || this.failure !== undefined;
  }

  handle(message: AnyEvent<OwnedFd>): void {
    if (message.interface !== "shmlink_listener_v1") return;
    const { event } = message;
    if (event.kind === "registered") this.id = event.listenerId;
    else {
      this.failure = failureOf(event.code, event.message);
      if (this.id !== 0) this.#onRevoked(this.failure);
    }
  }

  /** Takes it out of the registry. Safe to call twice. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#link.forget(this.#object, "shmlink_listener_v1", this.#generation);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

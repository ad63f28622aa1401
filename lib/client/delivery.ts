/** Descriptors that somebody offered, and now they are ours. */
import type { OwnedFd } from "../../ffi/mod.ts";
import type { FailureError } from "../errors.ts";
import type { AnyEvent } from "../protocol/messages.ts";
import { failureOf } from "./failure.ts";

/** One descriptor, and what the broker takes it for: "tcp", "unix-stream", "memfd" and so on. */
export type Item = { readonly fd: OwnedFd; readonly type: string };

/** What a delivery needs of its connection. */
export type DeliveryLink = {
  /** Tells the broker that we do not wait for it any more; when it is settled, that is not urgent. */
  forget(settled: boolean): void;
  /** Tells it, too, and hears what it has handed over by then; `onGone` when that is all. */
  withdraw(onGone: () => void): void;
};

/** A bundle, in the order of who offered it. Its descriptors are the receiver's to close; dispose() closes those left. */
export class Delivery implements Disposable {
  readonly items: Item[] = [];
  /** Who offered it. */
  pid = 0;
  uid = 0;
  failure: FailureError | undefined;
  readonly #link: DeliveryLink;
  #done = false;
  #forgotten = false;

  constructor(link: DeliveryLink) {
    this.#link = link;
  }

  /** Whether it is whole, or will never be. */
  get settled(): boolean {
    return this.#done || this.failure !== undefined;
  }

  get fds(): OwnedFd[] {
    return this.items.map(({ fd }) => fd);
  }

  handle(message: AnyEvent<OwnedFd>): void {
    if (message.interface !== "shmlink_delivery_v1") return;
    const { event } = message;
    if (event.kind === "fd") this.items.push({ fd: event.fd, type: event.type });
    else if (event.kind === "failed") this.failure = failureOf(event.code, event.message);
    else {
      this.#done = true;
      this.pid = event.pid;
      this.uid = event.uid;
    }
  }

  /** Its time is over: it is settled as soon as the broker has heard that, by what it had handed over before, or as `failure`. */
  withdraw(failure: FailureError): void {
    if (this.#forgotten || this.settled) return;
    this.#link.withdraw(() => {
      this.#forgotten = true;
      if (!this.settled) this.failure = failure;
    });
  }

  /** Ends the request: nothing comes any more. Safe to call twice. */
  finish(): void {
    if (this.#forgotten) return;
    this.#forgotten = true;
    this.#link.forget(this.settled);
  }

  /** Gives up waiting, and closes what nobody has taken over. Safe to call twice. */
  [Symbol.dispose](): void {
    this.finish();
    for (const { fd } of this.items) fd.close();
  }
}

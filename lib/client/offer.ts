/** A name under which we pass descriptors on. */
import type { BorrowedFd, OwnedFd } from "../../ffi/mod.ts";
import type { FailureError } from "../errors.ts";
import type { AnyEvent } from "../protocol/messages.ts";
import type { ObjectId } from "../util/brand.ts";
import { failureOf } from "./failure.ts";

/** Who has taken a bundle. */
export type Taken = { readonly bundle: number; readonly pid: number; readonly uid: number };

export type PublishOptions = {
  /** Everyone who asks gets a copy, until something else is published or the offer ends. */
  readonly keep?: boolean;
  /** Only to who waits already; else it is refused with "unknown-name". */
  readonly now?: boolean;
  /** Nothing comes into `taken` for it, where the broker knows how: two system calls less at this side, one at the broker's. */
  readonly quiet?: boolean;
};

/** What an offer needs of its connection. */
export type OfferLink = {
  publish(object: ObjectId, fds: readonly BorrowedFd[], options: PublishOptions): void;
  answer(until: () => boolean, what: string): void;
  forget(object: ObjectId, name: "shmlink_offer_v1"): void;
};

export class Offer implements Disposable {
  readonly name: string;
  id = 0;
  /** Why it is not, or no longer, offered. */
  failure: FailureError | undefined;
  /** Who has taken what, oldest first; the caller may empty it. */
  readonly taken: Taken[] = [];
  readonly #link: OfferLink;
  readonly #object: ObjectId;
  #answers: (number | FailureError)[] = [];
  #closed = false;

  constructor(link: OfferLink, object: ObjectId, name: string) {
    this.#link = link;
    this.#object = object;
    this.name = name;
  }

  get settled(): boolean {
    return this.id !== 0 || this.failure !== undefined;
  }

  handle(message: AnyEvent<OwnedFd>): void {
    if (message.interface !== "shmlink_offer_v1") return;
    const { event } = message;
    if (event.kind === "registered") this.id = event.offerId;
    else if (event.kind === "failed") this.failure = failureOf(event.code, event.message);
    else if (event.kind === "published") this.#answers.push(event.bundle);
    else if (event.kind === "refused") this.#answers.push(failureOf(event.code, event.message));
    else this.taken.push({ bundle: event.bundle, pid: event.pid, uid: event.uid });
  }

  /**
   * Hands descriptors out, in this order; they are lent, and one taker gets them all.
   * @param fds  1 to 28  @returns the bundle's number, as in `taken`
   * @throws FailureError denied, also when the right to the name was revoked; quota, unknown-name; RangeError for more than 28
   */
  publish(fds: readonly BorrowedFd[], options: PublishOptions = {}): number {
    if (this.failure !== undefined) throw this.failure;
    this.#link.publish(this.#object, fds, options);
    const isAnswered = (): boolean => this.#answers.length > 0 || this.failure !== undefined;
    this.#link.answer(isAnswered, `the broker to take descriptors for "${this.name}"`);
    const answer = this.#answers.shift();
    if (typeof answer !== "number") throw this.failure ?? answer ?? new Error("An answer came without a bundle");
    return answer;
  }

  /** Withdraws the name and what nobody has taken. Safe to call twice. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#link.forget(this.#object, "shmlink_offer_v1");
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/**
 * Connections that were accepted, on their way to who takes them. Those under one name wait in the broker, a bounded
 * number, after which nobody is accepted any more. Those that name their service themselves go only to somebody who
 * waits for it, and are closed when nobody comes: names that a stranger makes up must not fill anything.
 */
import type { OwnedFd } from "../../../ffi/mod.ts";
import { coversName } from "../../broker/grants.ts";
import type { BrokerLink } from "../../client/broker-link.ts";
import type { Offer } from "../../client/offer.ts";
import { FailureError } from "../../errors.ts";
import type { Reactor } from "../../transport/reactor.ts";

/** Connections that may wait for a taker under one name. */
export const MAX_WAITING = 64;
const MAX_PATIENT = 256;
const PATIENCE_MS = 5000;
const RETRY_MS = 20;

/** Passes each connection on under the name of one offer. */
export class OneName {
  readonly #offer: Offer;
  #published = 0;
  #nTaken = 0;

  constructor(offer: Offer) {
    this.#offer = offer;
  }

  get failure(): FailureError | undefined {
    return this.#offer.failure;
  }

  /** Whether as many wait as may. */
  get full(): boolean {
    this.#nTaken += this.#offer.taken.splice(0).length;
    return this.#published - this.#nTaken >= MAX_WAITING;
  }

  /** Takes the connection. */
  pass(connection: OwnedFd): void {
    using owned = connection;
    this.#offer.publish([owned]);
    this.#published += 1;
  }
}

type Waiting = { readonly connection: OwnedFd; readonly offer: Offer; readonly giveUpMs: number };

/** Passes each connection on to who waits for NAME/host. */
export class ManyNames implements Disposable {
  readonly #link: BrokerLink;
  readonly #reactor: Reactor;
  readonly #name: string;
  readonly #onDropped: (why: string) => void;
  readonly #waiting: Set<Waiting> = new Set();
  readonly #offers: Map<string, Offer> = new Map();
  #timer: { cancel(): void } | undefined;

  constructor(link: BrokerLink, reactor: Reactor, name: string, onDropped: (why: string) => void) {
    this.#link = link;
    this.#reactor = reactor;
    this.#name = name;
    this.#onDropped = onDropped;
  }

  get full(): boolean {
    return this.#waiting.size >= MAX_PATIENT;
  }

  /** The right to whatever a connection may name was revoked, and no other grant covers one that was named before. */
  get failure(): FailureError | undefined {
    const names = `${this.#name}/*`;
    const isGone = this.#link.revoked.some(({ rights, name }) => rights.includes("offer") && coversName(name, names));
    const isLeft = [...this.#offers.values()].some(({ failure }) => failure === undefined);
    if (!isGone || isLeft) return undefined;
    return new FailureError("denied", `Cannot offer "${names}" any longer: the right was revoked`);
  }

  /** Takes the connection. */
  pass(connection: OwnedFd, host: string): void {
    try {
      const waiting = { connection, offer: this.#offerFor(host), giveUpMs: Date.now() + PATIENCE_MS };
      if (!this.#try(waiting)) this.#wait(waiting);
    } catch (error) {
      connection.close();
      if (!(error instanceof FailureError)) throw error;
      this.#onDropped(error.message);
    }
  }

  #offerFor(host: string): Offer {
    const known = this.#offers.get(host);
    if (known !== undefined) return known;
    const offer = this.#link.offer(`${this.#name}/${host}`);
    this.#offers.set(host, offer);
    return offer;
  }

  /** @returns false when nobody waits for it @throws FailureError */
  #try({ connection, offer }: Waiting): boolean {
    try {
      offer.publish([connection], { now: true, quiet: true }); // who answers to "now" has it
      connection.close();
      this.#tidy();
      return true;
    } catch (error) {
      if (error instanceof FailureError && error.code === "unknown-name") return false;
      throw error;
    }
  }

  #wait(waiting: Waiting): void {
    this.#waiting.add(waiting);
    this.#timer ??= this.#reactor.setTimer(RETRY_MS, () => this.#retry());
  }

  #retry(): void {
    this.#timer = undefined;
    const stuck = new Set<Offer>(); // nobody waits for it: those behind need not be tried
    for (const waiting of this.#waiting) {
      const { connection, offer, giveUpMs } = waiting;
      try {
        if (!stuck.has(offer) && this.#try(waiting)) this.#waiting.delete(waiting);
        else if (Date.now() > giveUpMs) throw new FailureError("timeout", `Nobody takes "${offer.name}"`);
        else stuck.add(offer);
      } catch (error) {
        this.#waiting.delete(waiting);
        connection.close();
        if (!(error instanceof FailureError)) throw error;
        this.#onDropped(error.message);
      }
    }
    this.#tidy();
    if (this.#waiting.size > 0) this.#timer = this.#reactor.setTimer(RETRY_MS, () => this.#retry());
  }

  /** Names that nobody has asked for lately are given up, the oldest first. */
  #tidy(): void {
    if (this.#offers.size <= MAX_WAITING) return;
    const inUse = new Set([...this.#waiting].map(({ offer }) => offer));
    for (const [host, offer] of this.#offers) {
      if (this.#offers.size <= MAX_WAITING) return;
      if (inUse.has(offer)) continue;
      this.#offers.delete(host);
      offer.close();
    }
  }

  [Symbol.dispose](): void {
    this.#timer?.cancel();
    for (const { connection } of this.#waiting) connection.close();
    for (const offer of this.#offers.values()) offer.close();
  }
}

/**
 * Connections that were accepted, on their way to who takes them. Those under one name wait in the broker, a bounded
 * number, after which nobody is accepted any more. Those that name their service themselves go only to somebody who
 * waits for it, and are closed when nobody comes, or too many others wait: names that a stranger makes up must not fill
 * anything, nor keep anybody out.
 */
import type { OwnedFd } from "../../../ffi/mod.ts";
import { coversName } from "../../broker/grants.ts";
import type { BrokerLink } from "../../client/broker-link.ts";
import type { Offer } from "../../client/offer.ts";
import { FailureError } from "../../errors.ts";
import type { Reactor } from "../../transport/reactor.ts";
import { whoGivesWay } from "./giving-way.ts";

/** Connections that may wait for a taker under one name. */
export const MAX_WAITING = 64;
const MAX_PATIENT = 256;
export const PATIENCE_MS = 5000;
const RETRY_MS = 20;

/** When those who wait are tried again. Each host costs the broker's answer: more of them are tried less often, or we would do
 *  nothing else. @param nHosts  that nobody takes */
export function retryMs(nHosts: number): number {
  return RETRY_MS + nHosts;
}

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

type Waiting = {
  readonly connection: OwnedFd;
  readonly host: string;
  readonly offer: Offer;
  readonly giveUpMs: number;
};

export type ManyNamesOptions = {
  readonly link: BrokerLink;
  readonly reactor: Reactor;
  readonly name: string;
  /** How long a connection waits for somebody to take it, at most. */
  readonly patienceMs: number;
  /** A connection was closed; `why` is for people. */
  readonly onDropped: (why: string) => void;
};

/** Passes each connection on to who waits for NAME/host. */
export class ManyNames implements Disposable {
  readonly #link: BrokerLink;
  readonly #reactor: Reactor;
  readonly #name: string;
  readonly #patienceMs: number;
  readonly #onDropped: (why: string) => void;
  /** The oldest first. */
  readonly #waiting: Set<Waiting> = new Set();
  readonly #offers: Map<string, Offer> = new Map();
  #timer: { cancel(): void } | undefined;

  constructor({ link, reactor, name, patienceMs, onDropped }: ManyNamesOptions) {
    this.#link = link;
    this.#reactor = reactor;
    this.#name = name;
    this.#patienceMs = patienceMs;
    this.#onDropped = onDropped;
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
      const giveUpMs = Date.now() + this.#patienceMs;
      const waiting = { connection, host, offer: this.#offerFor(host), giveUpMs };
      if (!this.#try(waiting)) this.#wait(waiting);
    } catch (error) {
      this.#drop(connection, error);
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
    if (this.#waiting.size > MAX_PATIENT) this.#makeRoom();
    this.#timer ??= this.#reactor.setTimer(retryMs(1), () => this.#retry());
  }

  #makeRoom(): void {
    const waiting = whoGivesWay(this.#waiting);
    if (waiting === undefined) return;
    this.#waiting.delete(waiting);
    const { connection, offer } = waiting;
    try {
      if (this.#try(waiting)) return; // somebody has come just now
      throw new FailureError("timeout", `Nobody takes "${offer.name}", and others came`);
    } catch (error) {
      this.#drop(connection, error);
    }
  }

  /** Disconnects it. @throws `error` when it is ours */
  #drop(connection: OwnedFd, error: unknown): void {
    connection.close();
    if (!(error instanceof FailureError)) throw error;
    this.#onDropped(error.message);
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
        this.#drop(connection, error);
      }
    }
    this.#tidy();
    if (this.#waiting.size > 0) this.#timer = this.#reactor.setTimer(retryMs(stuck.size), () => this.#retry());
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

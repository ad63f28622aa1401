/**
 * A listening socket: who connects there is taken in at once, or, where so many come that others would notice, a few at a
 * time in the turns of those who flood.
 */
import { accept, constants, getStatusFlags, type OwnedFd, peerCredentials, recv, SyscallError } from "../../ffi/mod.ts";
import type { ContextIdentity } from "../policy/types.ts";
import type { Reactor, Registration } from "../transport/reactor.ts";
import type { BrokerCore } from "./core.ts";
import type { Exhaustion } from "./exhaustion.ts";
import { newShare, type Share } from "./flood-share.ts";
import { keepOutOfBandInLine } from "./out-of-band.ts";
import type { ContextRecord } from "./records.ts";

/** How long to leave the backlog alone when the process is out of descriptors. */
const EXHAUSTED_PAUSE_MS = 100;
/** In a turn: about as much work as a few requests. */
const ACCEPTED_AT_ONCE = 4;
/** Where others may stand behind those who come in such numbers. */
const ACCEPTED_AT_ONCE_OF_ALL = 16;
/** Connections that hear in a row that there is no room, before everybody else has a turn. */
const TURNED_AWAY_AT_ONCE = 64;

/** Somebody who has connected and is not let in yet. */
export type Newcomer = { readonly fd: OwnedFd; readonly uid: number; readonly context: ContextIdentity | undefined };

export type DoorOptions = {
  readonly core: Pick<BrokerCore, "floodTurns"> & { readonly closer: Pick<BrokerCore["closer"], "guardConnection"> };
  readonly reactor: Reactor;
  /** Lent, until close(). */
  readonly listener: OwnedFd;
  /** What those who connect there belong to. */
  readonly context: ContextRecord | undefined;
  readonly exhaustion: Pick<Exhaustion, "warn" | "spend">;
  /** Takes the newcomer. */
  readonly receive: (newcomer: Newcomer) => void;
  /** Somebody has made the socket of a context such that we would wait in accept(2). */
  readonly spoiled: () => void;
  /** Says why nobody can be let in. Takes the newcomer. */
  readonly refuse: (newcomer: Newcomer, why: SyscallError) => void;
};

export class Door {
  readonly #options: DoorOptions;
  /** Whoever connects to a context's socket is of that context; of the others nothing is known before they are taken in. */
  readonly #share: Share;
  #registration: Registration | undefined;
  #isClosed = false;
  #turnedAway = 0;

  constructor(options: DoorOptions) {
    this.#options = options;
    const { core, context } = options;
    const { identity, owner } = context ?? {};
    this.#share = owner === undefined ? newShare() : core.floodTurns.shareOf({ uid: owner.uid, context: identity });
    this.#watch();
  }

  #watch(): void {
    const { reactor, listener } = this.#options;
    if (!this.#isClosed) this.#registration = reactor.add(listener, constants.EPOLLIN, () => this.#ready());
  }

  /** The backlog stays readable, and a socket that somebody has shut down stays so for ever. */
  #lookAway(): void {
    this.#registration?.remove();
  }

  #ready(): void {
    const { floodTurns } = this.#options.core;
    if (!floodTurns.isGreedy(this.#share)) {
      const accepted = floodTurns.run(this.#share, () => this.#accept());
      return void this.#receive(accepted);
    }
    this.#lookAway();
    floodTurns.await(this.#share, () => this.#takeTurn());
  }

  #takeTurn(): void {
    this.#watch();
    const most = this.#options.context === undefined ? ACCEPTED_AT_ONCE_OF_ALL : ACCEPTED_AT_ONCE;
    for (let count = 0; count < most && !this.#isClosed; count++) if (!this.#receive(this.#accept())) return;
  }

  /** @returns whether there may be more */
  #receive(accepted: Newcomer | SyscallError | "left" | "nobody"): boolean {
    const { receive, exhaustion, reactor, context } = this.#options;
    if (accepted === "nobody") return false;
    if (accepted instanceof SyscallError) {
      exhaustion.warn(accepted);
      if (this.#turnAway(accepted)) return true;
      this.#lookAway();
      reactor.setTimer(EXHAUSTED_PAUSE_MS, () => this.#watch());
      return false;
    }
    if (context !== undefined) context.accepted += 1;
    if (accepted !== "left") receive(accepted);
    return true;
  }

  /** @returns "nobody" when there is nobody any more; an error when the system has nothing to give, such as a descriptor */
  #accept(): Newcomer | SyscallError | "left" | "nobody" {
    const { listener, context, core, spoiled } = this.#options;
    try {
      if (context !== undefined && (getStatusFlags(listener) & constants.O_NONBLOCK) === 0) {
        spoiled();
        return "nobody";
      }
      const accepted = accept(listener);
      if (accepted === null) return "nobody";
      const { fd } = accepted;
      keepOutOfBandInLine(fd);
      if (hasLeft(fd)) {
        fd.close(); // nothing lies in it, and nothing can be put there any more: that takes no time
        return "left";
      }
      const who = { uid: peerCredentials(fd).uid, context: context?.identity };
      return { fd: core.closer.guardConnection(fd, who), ...who };
    } catch (error) {
      if (error instanceof SyscallError) return error;
      throw error;
    }
  }

  /** Who waits hears why, with the descriptor that was kept for that. @returns false when it is time to look away */
  #turnAway(why: SyscallError): boolean {
    const { exhaustion, refuse } = this.#options;
    let isTold = false;
    const hasReserve = exhaustion.spend(() => {
      const accepted = this.#accept();
      if (accepted === "nobody" || accepted instanceof SyscallError) return;
      if (accepted !== "left") refuse(accepted, why);
      isTold = true;
    });
    this.#turnedAway += 1;
    return isTold && hasReserve && this.#turnedAway % TURNED_AWAY_AT_ONCE !== 0;
  }

  /** To be called before the listener is closed. Safe to call twice. */
  close(): void {
    this.#isClosed = true;
    this.#registration?.remove();
  }
}

const BYTE = new Uint8Array(1);

/** Whether he has gone without a word, and can say none any more: nobody has to be asked who that was. */
export function hasLeft(fd: OwnedFd): boolean {
  try {
    return recv(fd, BYTE, constants.MSG_PEEK | constants.MSG_DONTWAIT) === 0;
  } catch (error) {
    if (error instanceof SyscallError) return false; // he has left something unread, so something may lie here
    throw error;
  }
}

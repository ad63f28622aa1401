/** Letting peers in: who connects to a listening socket is counted, asked who he is, judged, and then has a session. */
import { accept, constants, type OwnedFd, peerCredentials, recv, SyscallError } from "../../ffi/mod.ts";
import { FailureError } from "../errors.ts";
import type { ContextIdentity } from "../policy/types.ts";
import { ServerConnection } from "../protocol/connection.ts";
import { WL_DISPLAY_ERROR as DISPLAY_ERROR } from "../protocol/shmlink-v1.gen.ts";
import { peerIdentity } from "../transport/peer.ts";
import type { Reactor, Registration } from "../transport/reactor.ts";
import { UnixTransport } from "../transport/unix.ts";
import type { ObjectId } from "../util/brand.ts";
import { authorize, type BrokerCore, chargeQuota } from "./core.ts";
import { Exhaustion, explainRefusal } from "./exhaustion.ts";
import { keepOutOfBandInLine } from "./out-of-band.ts";
import type { ContextRecord, Owner } from "./records.ts";

/** How long to leave the backlog alone when the process is out of descriptors. */
const EXHAUSTED_PAUSE_MS = 100;
/** What a connection counts for, in messages: about as much work. */
const CONNECT_COST = 50;
/** Connections that may wait to be let in. */
const MAX_PARKED = 128;
/** Between two of them. */
const PARKED_MS = 1;
/** Who comes in such numbers that he cannot be let in at once is looked at so many at a time, and then others. */
const CROWD_AT_ONCE = 4;
const CROWD_PAUSE_MS = 0.3;
/** Connections that hear in a row that there is no room, before everybody else has a turn. */
const TURNED_AWAY_AT_ONCE = 64;
const DISPLAY = 1 as ObjectId;

/** Somebody who has connected and is not let in yet. */
type Newcomer = { readonly fd: OwnedFd; readonly uid: number; readonly context: ContextIdentity | undefined };

export class Admission implements Disposable {
  readonly #core: BrokerCore;
  readonly #reactor: Reactor;
  readonly #parked: Newcomer[] = [];
  readonly #registrations: Map<OwnedFd, Registration> = new Map();
  readonly #exhaustion: Exhaustion;
  #turnedAway = 0;
  #crowd = 0;

  constructor(core: BrokerCore, reactor: Reactor) {
    this.#core = core;
    this.#reactor = reactor;
    this.#exhaustion = new Exhaustion(core.logger);
  }

  /** Whether somebody has connected who is not let in yet. */
  get isWaitedFor(): boolean {
    return this.#parked.length > 0;
  }

  /** The listener stays the caller's. @param context  what those who connect there belong to */
  watch(listener: OwnedFd, context?: ContextRecord): void {
    const accepting = this.#reactor.add(listener, constants.EPOLLIN, () => this.#accept(listener, context));
    this.#registrations.set(listener, accepting);
  }

  /** To be called before the listener is closed. */
  unwatch(listener: OwnedFd): void {
    this.#registrations.get(listener)?.remove();
    this.#registrations.delete(listener);
  }

  #accept(listener: OwnedFd, context?: ContextRecord): void {
    const accepted = this.#tryAccept(listener, context);
    if (accepted === undefined) return;
    if (accepted instanceof SyscallError) {
      this.#exhaustion.warn(accepted);
      if (!this.#turnAway(listener, context, accepted)) this.#pause(listener, context, EXHAUSTED_PAUSE_MS);
    } else if (!this.#receive(accepted, context)) {
      this.#crowd += 1;
      if (this.#crowd % CROWD_AT_ONCE === 0) this.#pause(listener, context, CROWD_PAUSE_MS);
    }
  }

  /** @returns undefined when nobody is there any more; an error when the system has nothing to give, such as a descriptor */
  #tryAccept(listener: OwnedFd, context: ContextRecord | undefined): Newcomer | SyscallError | undefined {
    try {
      const accepted = accept(listener);
      if (accepted === null) return undefined;
      const who = { uid: peerCredentials(accepted.fd).uid, context: context?.identity };
      keepOutOfBandInLine(accepted.fd);
      return { fd: this.#core.closer.guardConnection(accepted.fd, who), ...who };
    } catch (error) {
      if (error instanceof SyscallError) return error;
      throw error;
    }
  }

  /** Who waits hears why, with the descriptor that was kept for that. @returns false when it is time to look away */
  #turnAway(listener: OwnedFd, context: ContextRecord | undefined, why: SyscallError): boolean {
    let isTold = false;
    const hasReserve = this.#exhaustion.spend(() => {
      const accepted = this.#tryAccept(listener, context);
      if (accepted === undefined || accepted instanceof SyscallError) return;
      refuse(accepted.fd, DISPLAY_ERROR.no_memory, `Cannot let you in: ${explainRefusal(why)}`);
      isTold = true;
    });
    this.#turnedAway += 1;
    return isTold && hasReserve && this.#turnedAway % TURNED_AWAY_AT_ONCE !== 0;
  }

  /** The backlog stays readable, so look away for a moment instead of spinning. */
  #pause(listener: OwnedFd, context: ContextRecord | undefined, pauseMs: number): void {
    this.unwatch(listener);
    this.#reactor.setTimer(pauseMs, () => {
      if (!listener.closed) this.watch(listener, context);
    });
  }

  /** Who connects without end waits for his turn, and after that is turned away, before it costs more than a moment.
   *  @returns whether he is let in, or has heard why not */
  #receive(newcomer: Newcomer, context: ContextRecord | undefined): boolean {
    if (context !== undefined) context.accepted += 1;
    const hasCome = !hasLeft(newcomer.fd);
    const isTurn = hasCome && this.#isTurnOf(newcomer, performance.now());
    if (isTurn) this.#admit(newcomer);
    else if (hasCome && this.#parked.length < MAX_PARKED) this.#park(newcomer);
    else newcomer.fd.close();
    return isTurn;
  }

  #park(newcomer: Newcomer): void {
    this.#parked.push(newcomer);
    if (this.#parked.length === 1) this.#reactor.setTimer(PARKED_MS, () => this.#unpark());
  }

  /** Not when there is enough for the whole cost: a user of whom one session floods never has that much, and could not come
   *  in at all. */
  #isTurnOf(who: Newcomer, nowMs: number): boolean {
    return this.#core.rate.waitMs(who, 1, nowMs) === 0;
  }

  /** The first whose turn it is. One at a time, since each is as much work as many messages. */
  #unpark(): void {
    const nowMs = performance.now();
    const index = this.#parked.findIndex((newcomer) => this.#isTurnOf(newcomer, nowMs));
    const [newcomer] = index < 0 ? [] : this.#parked.splice(index, 1);
    if (newcomer !== undefined && hasLeft(newcomer.fd)) newcomer.fd.close();
    else if (newcomer !== undefined) this.#admit(newcomer);
    if (this.#parked.length > 0) this.#reactor.setTimer(PARKED_MS, () => this.#unpark());
  }

  #admit(newcomer: Newcomer): void {
    const { fd, context } = newcomer;
    this.#core.rate.spend(newcomer, CONNECT_COST, performance.now());
    let charged: Owner | undefined;
    try {
      const { pidfd, ...known } = peerIdentity(fd);
      pidfd?.close();
      const owner = { ...known, context };
      authorize(this.#core, owner, "connect", "");
      this.#core.closer.checkBacklog(owner);
      chargeQuota(this.#core, owner, { sessions: 1 });
      charged = owner;
      this.#core.startSession(fd, owner);
    } catch (error) {
      if (charged !== undefined) this.#core.quota.release(charged, { sessions: 1 });
      if (error instanceof FailureError) return refuse(fd, DISPLAY_ERROR.implementation, error.message);
      if (error instanceof SyscallError) return this.#giveUp(fd, error);
      fd.close();
      throw error;
    }
  }

  /** The system refuses what a session needs: he hears it, and so does the log. */
  #giveUp(fd: OwnedFd, error: SyscallError): void {
    this.#exhaustion.warn(error);
    refuse(fd, DISPLAY_ERROR.no_memory, `Cannot let you in: ${explainRefusal(error)}`);
  }

  [Symbol.dispose](): void {
    for (const { fd } of this.#parked) fd.close();
    this.#exhaustion[Symbol.dispose]();
  }
}

const BYTE = new Uint8Array(1);

/** Whether he has gone without a word: nobody has to be asked who that was. */
function hasLeft(fd: OwnedFd): boolean {
  try {
    return recv(fd, BYTE, constants.MSG_PEEK | constants.MSG_DONTWAIT) === 0;
  } catch (error) {
    if (error instanceof SyscallError) return true;
    throw error;
  }
}

/** Tells a peer that is not let in why, before the connection ends. Takes `fd`. @param code  of wl_display */
function refuse(fd: OwnedFd, code: number, message: string): void {
  using connection = new ServerConnection(new UnixTransport(fd));
  try {
    connection.sendError(DISPLAY, code, message);
    connection.flush();
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error; // it is gone already
  }
}

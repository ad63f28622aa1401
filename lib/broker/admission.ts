/** Letting peers in: who connects to a listening socket is counted, asked who he is, judged, and then has a session. */
import { accept, constants, errno, type OwnedFd, peerCredentials, SyscallError } from "../../ffi/mod.ts";
import { FailureError } from "../errors.ts";
import type { ContextIdentity } from "../policy/types.ts";
import { ServerConnection } from "../protocol/connection.ts";
import { peerIdentity } from "../transport/peer.ts";
import type { Reactor, Registration } from "../transport/reactor.ts";
import { UnixTransport } from "../transport/unix.ts";
import { authorize, type BrokerCore, chargeQuota } from "./core.ts";
import type { ContextRecord, Owner } from "./records.ts";

/** How long to leave the backlog alone when the process is out of descriptors. */
const EXHAUSTED_PAUSE_MS = 100;
/** What a connection counts for, in messages: about as much work. */
const CONNECT_COST = 50;
/** Connections that may wait to be let in. */
const MAX_PARKED = 128;
const PARKED_MS = 5;

/** Somebody who has connected and is not let in yet. */
type Newcomer = { readonly fd: OwnedFd; readonly context: ContextIdentity | undefined };

export class Admission implements Disposable {
  readonly #core: BrokerCore;
  readonly #reactor: Reactor;
  readonly #parked: Newcomer[] = [];
  readonly #registrations: Map<OwnedFd, Registration> = new Map();

  constructor(core: BrokerCore, reactor: Reactor) {
    this.#core = core;
    this.#reactor = reactor;
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
    try {
      const accepted = accept(listener);
      if (accepted !== null) this.#receive(accepted.fd, context);
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
      if (error.errno === errno.EMFILE || error.code === "ENFILE") this.#pause(listener, error, context);
      else this.#core.logger.warn(`Cannot accept: ${error.message}`);
    }
  }

  /** Out of descriptors: the backlog stays readable, so look away for a moment instead of spinning. */
  #pause(listener: OwnedFd, error: SyscallError, context: ContextRecord | undefined): void {
    this.#core.logger.warn(`Cannot accept: ${error.message}; raise LimitNOFILE= of the broker`);
    this.#registrations.get(listener)?.remove();
    this.#reactor.setTimer(EXHAUSTED_PAUSE_MS, () => {
      if (!listener.closed) this.watch(listener, context);
    });
  }

  /** Who connects without end waits for his turn, and after that is turned away, before it costs more than a moment. */
  #receive(fd: OwnedFd, context: ContextRecord | undefined): void {
    if (context !== undefined) context.accepted += 1;
    const newcomer = { fd, context: context?.identity };
    if (this.#spendConnect(newcomer)) return this.#admit(newcomer);
    if (this.#parked.length >= MAX_PARKED) return fd.close();
    this.#parked.push(newcomer);
    if (this.#parked.length === 1) this.#reactor.setTimer(PARKED_MS, () => this.#unpark());
  }

  #spendConnect({ fd, context }: Newcomer): boolean {
    const { rate } = this.#core;
    const who = { uid: peerCredentials(fd).uid, context };
    const nowMs = performance.now();
    if (rate.waitMs(who, CONNECT_COST, nowMs) > 0) return false;
    rate.spend(who, CONNECT_COST, nowMs);
    return true;
  }

  #unpark(): void {
    for (const newcomer of this.#parked.splice(0)) {
      if (this.#spendConnect(newcomer)) this.#admit(newcomer);
      else this.#parked.push(newcomer);
    }
    if (this.#parked.length > 0) this.#reactor.setTimer(PARKED_MS, () => this.#unpark());
  }

  #admit({ fd, context }: Newcomer): void {
    let charged: Owner | undefined;
    try {
      const { pidfd, ...known } = peerIdentity(fd);
      pidfd?.close();
      const owner = { ...known, context };
      authorize(this.#core, owner, "connect", "");
      chargeQuota(this.#core, owner, { sessions: 1 });
      charged = owner;
      this.#core.startSession(fd, owner);
    } catch (error) {
      if (charged !== undefined) this.#core.quota.release(charged, { sessions: 1 });
      if (error instanceof FailureError) refuse(fd, error.message);
      fd.close();
      if (!(error instanceof FailureError || error instanceof SyscallError)) throw error;
    }
  }

  [Symbol.dispose](): void {
    for (const { fd } of this.#parked) fd.close();
  }
}

/** Tells a peer that is not let in why, before the connection ends. Takes `fd`. */
function refuse(fd: OwnedFd, message: string): void {
  using connection = new ServerConnection(new UnixTransport(fd));
  try {
    connection.sendError(1 as Parameters<ServerConnection["sendError"]>[0], 3, message);
    connection.flush();
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error; // it is gone already
  }
}

/**
 * Letting peers in: who connects to a listening socket is counted, asked who he is, judged, and then has a session. What that
 * costs is time of his user's or his context's; those who use a lot of it wait for their turn.
 */
import { type OwnedFd, SyscallError } from "../../ffi/mod.ts";
import { FailureError } from "../errors.ts";
import { ServerConnection } from "../protocol/connection.ts";
import { WL_DISPLAY_ERROR as DISPLAY_ERROR } from "../protocol/shmlink-v1.gen.ts";
import { peerIdentity } from "../transport/peer.ts";
import type { Reactor } from "../transport/reactor.ts";
import { UnixTransport } from "../transport/unix.ts";
import type { ObjectId } from "../util/brand.ts";
import { authorize, type BrokerCore, chargeQuota, quotaRefusal } from "./core.ts";
import { Departed } from "./departed.ts";
import { Door, type Newcomer } from "./door.ts";
import { Exhaustion, explainRefusal, SeldomWarning } from "./exhaustion.ts";
import type { ContextRecord, Owner } from "./records.ts";
import { WaitingRoom } from "./waiting-room.ts";

/** What a connection counts for, in messages: about as much work. */
const CONNECT_COST = 50;
const SESSION = { sessions: 1 };
const DISPLAY = 1 as ObjectId;

export class Admission implements Disposable {
  readonly #core: BrokerCore;
  readonly #reactor: Reactor;
  readonly #doors: Map<OwnedFd, Door> = new Map();
  readonly #waiting: WaitingRoom;
  readonly #departed: Departed;
  readonly #exhaustion: Exhaustion;

  /** @param emptied  called when nobody is waited for any more */
  constructor(core: BrokerCore, reactor: Reactor, emptied: () => void) {
    this.#core = core;
    this.#reactor = reactor;
    this.#exhaustion = new Exhaustion(core.logger);
    this.#departed = new Departed(core.sessions);
    const crowded = new SeldomWarning(core.logger);
    this.#waiting = new WaitingRoom({
      core,
      reactor,
      admit: (newcomer) => this.#admit(newcomer),
      makeRoom: (newcomer) => this.#departed.letGo(newcomer, performance.now()),
      refuse: ({ fd, uid }, why) => {
        crowded.warn(why, { uid });
        refuseWith(fd, DISPLAY_ERROR.implementation, quotaRefusal("let you in", why));
      },
      emptied,
    });
  }

  /** Whether somebody has connected who is not let in yet. */
  get isWaitedFor(): boolean {
    return this.#waiting.size > 0;
  }

  /** The listener stays the caller's. @param context  what those who connect there belong to
   *  @param spoiled  called when we would wait in accept(2) there, because somebody has changed the socket of a context */
  watch(listener: OwnedFd, context?: ContextRecord, spoiled: () => void = () => undefined): void {
    const shared = { reactor: this.#reactor, core: this.#core, exhaustion: this.#exhaustion, spoiled };
    const receive = (newcomer: Newcomer): void => this.#waiting.receive(newcomer);
    const refuse = ({ fd }: Newcomer, why: SyscallError): void =>
      refuseWith(fd, DISPLAY_ERROR.no_memory, `Cannot let you in: ${explainRefusal(why)}`);
    this.#doors.set(listener, new Door({ ...shared, listener, context, receive, refuse }));
  }

  /** To be called before the listener is closed. */
  unwatch(listener: OwnedFd): void {
    this.#doors.get(listener)?.close();
    this.#doors.delete(listener);
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
      this.#chargeSession(owner);
      charged = owner;
      this.#core.startSession(fd, owner);
    } catch (error) {
      if (charged !== undefined) this.#core.quota.release(charged, SESSION);
      if (error instanceof FailureError) return refuseWith(fd, DISPLAY_ERROR.implementation, error.message);
      if (error instanceof SyscallError) return this.#giveUp(fd, error);
      fd.close();
      throw error;
    }
  }

  /** @throws FailureError "quota" */
  #chargeSession(owner: Owner): void {
    if (this.#core.quota.charge(owner, SESSION) === undefined) return;
    this.#departed.letGo(owner, performance.now());
    chargeQuota(this.#core, owner, "let you in", SESSION);
  }

  /** The system refuses what a session needs: he hears it, and so does the log. */
  #giveUp(fd: OwnedFd, error: SyscallError): void {
    this.#exhaustion.warn(error);
    refuseWith(fd, DISPLAY_ERROR.no_memory, `Cannot let you in: ${explainRefusal(error)}`);
  }

  [Symbol.dispose](): void {
    for (const door of this.#doors.values()) door.close();
    this.#waiting[Symbol.dispose]();
    this.#exhaustion[Symbol.dispose]();
  }
}

/** Tells a peer that is not let in why, before the connection ends. Takes `fd`. @param code  of wl_display */
function refuseWith(fd: OwnedFd, code: number, message: string): void {
  using connection = new ServerConnection(new UnixTransport(fd));
  try {
    connection.sendError(DISPLAY, code, message);
    connection.flush();
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error; // it is gone already
  }
}

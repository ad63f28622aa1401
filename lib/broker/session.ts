/**
 * One connected peer: its connection, its objects, its quota, its end. Whatever the peer does wrong ends this session
 * and no other; end() gives back all that it held, exactly once.
 */
import { type BorrowedFd, borrowFd, constants, type OwnedFd, SyscallError } from "../../ffi/mod.ts";
import { FailureError, ProtocolError } from "../errors.ts";
import type { AnyRequest, ServerConnection } from "../protocol/connection.ts";
import type { Events, InterfaceName } from "../protocol/shmlink-v1.gen.ts";
import type { Reactor, Registration } from "../transport/reactor.ts";
import type { ObjectId } from "../util/brand.ts";
import { type BrokerCore, chargeQuota } from "./core.ts";
import { THE_MANAGER } from "./handlers/checks.ts";
import { type Handle, letGo } from "./handles.ts";
import { isDoorbell, PeerDoorbell } from "./peer-doorbell.ts";
import type { Owner } from "./records.ts";
import { handleRequest } from "./requests.ts";
import { Spares } from "./spares.ts";

/** A listing pauses above this much unsent output, so that a slow reader costs no memory. */
const LISTING_HIGH_BYTES = 1 << 16;
/** How long to wait when this user has too many descriptors in flight (ETOOMANYREFS). */
const STARVED_MS = 10;
/** Requests handled before the others have their turn: a client that asks a few things at once is answered at once. */
const SLICE = 32;
/** The same for who has more to say than that, turn after turn: what a flood may add to another's round trip. */
const FLOOD_SLICE = 8;
/** Who sent one request does not cost a second recvmsg(2) that finds nothing: what is left makes the socket readable. */
const ONE_RECEIVE = 1;
/** Where nobody watches the socket any more. */
const WHOLE = 1 << 16;

/** Sends some of its entries; false when there are none left. */
export type Listing = () => boolean;

export class Session {
  readonly core: BrokerCore;
  readonly owner: Owner;
  /** What each object stands for. */
  readonly handles: Map<ObjectId, Handle> = new Map();
  /** Set by hello. */
  manager: ObjectId | undefined;
  /** What the peer calls itself; empty before hello. */
  name = "";
  greeted = false;
  /** By performance.now(). */
  readonly startedMs: number = performance.now();
  /** Requests so far. */
  handled = 0;
  /** Rings that the client has made for channels to come. */
  readonly spares: Spares;
  readonly #connection: ServerConnection;
  readonly #reactor: Reactor;
  readonly #registration: Registration;
  readonly #onEnd: (session: Session) => void;
  #doorbell: PeerDoorbell | undefined;
  /** What core.ownSockets knows of us. */
  readonly #ownSockets: bigint[] = [];
  readonly #listings: Listing[] = [];
  #dirty = false;
  #blocked = false;
  /** A timer will read; the socket is not watched for input meanwhile. */
  #waiting = false;
  #hungUp = false;
  /** There was more to handle than one turn's share. */
  #floods = false;
  readonly #charged: { objects: number; queuedBytes: number } = { objects: 0, queuedBytes: 0 };
  #ended = false;

  constructor(
    core: BrokerCore,
    connection: ServerConnection,
    owner: Owner,
    wiring: { readonly reactor: Reactor; readonly fd: BorrowedFd; readonly onEnd: (session: Session) => void },
  ) {
    this.core = core;
    this.owner = owner;
    this.#connection = connection;
    this.#onEnd = wiring.onEnd;
    this.#reactor = wiring.reactor;
    // First what the system can refuse: nothing is to be taken back then.
    this.#registration = wiring.reactor.add(borrowFd(wiring.fd.number), constants.EPOLLIN, (events) =>
      this.#ready(events),
    );
    this.#ownSockets.push(core.ownSockets.add(wiring.fd));
    if (owner.grants === undefined) core.deadlines.watch();
    this.spares = new Spares({
      core,
      owner,
      setTimer: (delayMs, callback) => wiring.reactor.setTimer(delayMs, callback),
      tellDropped: (manager, serial) => this.send(manager, "shmlink_manager_v1", { kind: "spare_dropped", serial }),
    });
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** Queues an event; settle() sends it. Events to a session that has ended are dropped, their descriptors closed. */
  send<N extends InterfaceName>(object: ObjectId, name: N, event: Events<OwnedFd>[N]): void {
    if (this.#ended) {
      for (const value of Object.values(event as object)) if (isOwnedFd(value)) value.close();
      return;
    }
    this.#touch();
    try {
      this.#connection.send(object, name, event);
    } catch (error) {
      this.#fail(error);
    }
  }

  createObject(name: InterfaceName, parent: ObjectId): ObjectId {
    return this.#connection.createServerObject(name, parent);
  }

  /** The version of the protocol that the client asked for, for this object. */
  versionOf(object: ObjectId): number {
    return this.#connection.versionOf(object);
  }

  destroyObject(object: ObjectId): void {
    this.handles.delete(object);
    if (!this.#ended) this.#connection.destroyObject(object);
  }

  /** Adopts the doorbell of hello: a stream socket, or anything else for none. */
  adoptDoorbell(fd: OwnedFd): void {
    // A connection to us that we held ourselves would never end.
    if (this.core.ownSockets.has(fd) || !isDoorbell(fd)) return fd.close();
    this.trackOwnSocket(fd);
    this.#doorbell = new PeerDoorbell(fd);
  }

  /** A socket that must not be relayed while we live. */
  trackOwnSocket(fd: BorrowedFd): void {
    this.#ownSockets.push(this.core.ownSockets.add(fd));
  }

  /** The request at hand is as much work as `count` of the usual kind: it uses up that much of the turn and of the rate. */
  countAs(count: number): void {
    this.#connection.spendMessages(count - 1);
  }

  /** Descriptors that wait until the peer reads. */
  get queuedFds(): number {
    return this.#connection.queuedFds;
  }

  get waitingListings(): number {
    return this.#listings.length;
  }

  /** Sends a long list as fast as the peer reads it. */
  addListing(listing: Listing): void {
    this.#listings.push(listing);
    this.#touch();
  }

  #touch(): void {
    if (this.#ended) return;
    this.#dirty = true;
    this.core.touched.add(this);
  }

  /** Sends what is queued, once per turn of the reactor, and rings the doorbell for it. */
  settle(): void {
    if (this.#ended || !this.#dirty) return;
    this.#dirty = false;
    try {
      this.#flush();
    } catch (error) {
      return this.#fail(error);
    }
    if (this.#doorbell?.ring() === false) this.#dropDoorbell();
  }

  #dropDoorbell(): void {
    this.#doorbell?.[Symbol.dispose]();
    this.#doorbell = undefined;
  }

  #flush(): void {
    let result = this.#connection.flush();
    for (let listing = this.#listings[0]; listing !== undefined && result === "done"; listing = this.#listings[0]) {
      while (this.#connection.queuedBytes < LISTING_HIGH_BYTES && !this.#ended) {
        if (listing()) continue;
        this.#listings.shift();
        break;
      }
      result = this.#connection.flush();
    }
    this.#watchOutput(result === "blocked");
    this.#account();
  }

  /** A full socket is waited for; too many descriptors in flight leave it writable, so that is tried again later. */
  #watchOutput(waiting: boolean): void {
    if (this.#ended) return;
    const starved = waiting && this.#connection.starved;
    if (starved) this.#reactor.setTimer(STARVED_MS, () => this.#touch());
    this.#blocked = waiting && !starved;
    this.#watch();
  }

  #watch(): void {
    if (this.#hungUp) return;
    const { EPOLLIN, EPOLLOUT } = constants;
    this.#registration.modify((this.#waiting ? 0 : EPOLLIN) | (this.#blocked ? EPOLLOUT : 0));
  }

  #ready(events: number): void {
    if ((events & constants.EPOLLOUT) !== 0) this.#touch();
    // A hang-up cannot be masked: while a timer reads what is left, it would keep the loop turning.
    if (this.#waiting && (events & (constants.EPOLLHUP | constants.EPOLLERR)) !== 0) {
      this.#hungUp = true;
      this.#registration.remove();
    } else if ((events & ~constants.EPOLLOUT) !== 0) this.#read();
  }

  /** Handles a few requests, as many as the user's rate leaves; the others have their turn before the next few. */
  #read(): void {
    if (this.#ended || this.#waiting) return;
    const { rate } = this.core;
    const nowMs = performance.now();
    const allowed = rate.available(this.owner, nowMs);
    // Who floods waits until it is worth while, so that the same user's other sessions find something before.
    if (allowed === 0) return this.#readLater(rate.waitMs(this.owner, this.#floods ? SLICE : 1, nowMs));
    const slice = this.#floods ? FLOOD_SLICE : SLICE;
    const limit = Math.min(allowed, slice);
    try {
      const budgetBytes = this.#hungUp ? WHOLE : ONE_RECEIVE;
      const state = this.#connection.pump(this.#handle, limit, budgetBytes);
      rate.spend(this.owner, limit - this.#connection.messagesLeft, nowMs);
      this.#floods = state === "more" && (this.#floods || limit === SLICE);
      if (state === "ended") return this.end();
      this.#checkWaitingFds();
      if (this.#connection.isHalfRead) this.core.deadlines.watch();
      this.core.closer.checkBacklog(this.owner);
      if (!this.#dirty) this.#account(); // else settle() does, when what is queued now is sent and costs nothing
      if (this.#floods && !this.#hungUp) this.#readInTurn();
      else if (state === "more" || this.#hungUp) this.#readLater(0);
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Descriptors whose message has not come are held here for as long as the session lives; one of our own connections
   *  among them, its own perhaps, would then live for ever. */
  #checkWaitingFds(): void {
    if (this.#ended || this.#connection.waitingFdCount === 0) return;
    if (this.#connection.waitingFds.some((fd) => this.core.ownSockets.has(fd)))
      throw new ProtocolError("A socket of the broker was sent ahead of a message");
  }

  /** What has been received and not handled does not make the socket readable again, so a timer stands for it. */
  #readLater(delayMs: number): void {
    this.#waiting = true;
    this.#watch();
    this.#reactor.setTimer(delayMs, this.#readAgain);
  }

  /** The same for who floods. */
  #readInTurn(): void {
    this.#waiting = true;
    this.#watch();
    this.core.floodTurns.await(this.#readAgain);
  }

  readonly #readAgain = (): void => {
    this.#waiting = false;
    if (this.#ended) return;
    this.#read();
    if (!this.#waiting && !this.#ended) this.#watch();
  };

  /** Charges what has grown since the last time and gives back what has shrunk. @throws FailureError "quota" */
  #account(): void {
    if (this.#ended) return;
    this.#accountFor("objects", this.#connection.objectCount);
    this.#accountFor("queuedBytes", this.#connection.queuedBytes);
  }

  #accountFor(resource: "objects" | "queuedBytes", held: number): void {
    const more = held - this.#charged[resource];
    if (more === 0) return;
    if (more > 0) chargeQuota(this.core, this.owner, { [resource]: more });
    else this.core.quota.release(this.owner, { [resource]: -more });
    this.#charged[resource] = held;
  }

  readonly #handle = (message: AnyRequest<OwnedFd>): void => {
    this.handled += 1;
    if (!this.#ended) handleRequest(this, message);
  };

  /** What the peer has begun and not finished. A connection that was minted is for whoever is given it, whenever he is. */
  get unfinished(): "hello" | "a message" | undefined {
    if (!this.greeted && this.owner.grants === undefined) return "hello";
    return this.#connection.isHalfRead ? "a message" : undefined;
  }

  /** Ends the session and says why. */
  expel(why: FailureError): void {
    this.#fail(why);
  }

  /** Lets go of what `object` stands for. */
  release(object: ObjectId): void {
    const handle = this.handles.get(object);
    this.handles.delete(object);
    if (handle !== undefined) letGo(this.core, handle);
  }

  /** The peer's fault ends its session with an error it can read; the system's refusal too; a bug ends the broker. */
  #fail(error: unknown): void {
    if (this.#ended) return;
    const { uid, pid } = this.owner;
    const who = { uid, pid, name: this.name };
    if (error instanceof ProtocolError) {
      this.core.logger.warn(`Session ended: ${error.message}`, who);
      const objectId = error.objectId === THE_MANAGER ? (this.manager ?? 1) : error.objectId;
      this.#lastWords(objectId, error.wireCode, error.message);
    } else if (error instanceof SyscallError || error instanceof FailureError) {
      this.core.logger.warn(`Session ended: ${error.message}`, who);
      this.#lastWords(1, 2, error.message);
    } else throw error;
    this.end();
  }

  #lastWords(objectId: number, code: number, message: string): void {
    try {
      this.#connection.sendError(objectId as ObjectId, code, message.slice(0, 1024));
      this.#connection.flush();
    } catch {
      // the peer does not read or is gone: it will see the end of the connection
    }
  }

  /** Ends the session and gives back what it held. Safe to call twice. */
  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#registration.remove();
    for (const object of [...this.handles.keys()]) this.release(object);
    this.#listings.length = 0;
    this.spares.close();
    this.core.quota.release(this.owner, this.#charged);
    for (const ino of this.#ownSockets) this.core.ownSockets.remove(ino);
    this.#dropDoorbell();
    this.#connection[Symbol.dispose]();
    this.core.touched.delete(this);
    this.#onEnd(this);
  }
}

function isOwnedFd(value: unknown): value is OwnedFd {
  return typeof value === "object" && value !== null && "take" in value;
}

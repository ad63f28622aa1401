/**
 * One connected peer: its connection, its objects, its quota, its end. Whatever the peer does wrong ends this session
 * and no other; end() gives back all that it held, exactly once.
 */
import { type BorrowedFd, constants, type OwnedFd } from "../../ffi/mod.ts";
import type { FailureError } from "../errors.ts";
import type { AnyRequest, ServerConnection } from "../protocol/connection.ts";
import type { Events, InterfaceName } from "../protocol/shmlink-v1.gen.ts";
import type { Reactor } from "../transport/reactor.ts";
import type { ObjectId } from "../util/brand.ts";
import type { BrokerCore } from "./core.ts";
import { type Handle, letGo } from "./handles.ts";
import { isDoorbell } from "./peer-doorbell.ts";
import { plainText } from "./plain-text.ts";
import type { Owner } from "./records.ts";
import { handleRequest } from "./requests.ts";
import { SessionAccount } from "./session/account.ts";
import { Input } from "./session/input.ts";
import { sayWhy } from "./session/last-words.ts";
import { dropEvent, Output } from "./session/output.ts";
import { SocketWatch } from "./session/socket-watch.ts";
import { Spares } from "./spares.ts";
import { whoIs } from "./who.ts";

const { EPOLLOUT, EPOLLHUP, EPOLLERR } = constants;
/** Of a refusal: half of a message. */
const MAX_SENTENCE_BYTES = 2048;

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
  /** What it is told. */
  readonly output: Output;
  readonly #connection: ServerConnection;
  readonly #watch: SocketWatch;
  readonly #input: Input;
  readonly #account: SessionAccount;
  readonly #onEnd: (session: Session) => void;
  /** What core.ownSockets knows of us. */
  readonly #ownSockets: bigint[] = [];
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
    const { reactor } = wiring;
    // First what the system can refuse: nothing is to be taken back then.
    this.#watch = new SocketWatch(reactor, wiring.fd, (events) => this.#ready(events));
    const shared = { connection, reactor, watch: this.#watch };
    this.#account = new SessionAccount(core, owner, connection);
    this.output = new Output({ ...shared, touched: () => void core.touched.add(this) });
    this.#input = new Input({
      ...shared,
      core,
      owner,
      handle: (message) => this.#handle(message),
      handled: () => this.#settleAccount(),
      settle: () => this.settle(),
      ended: () => this.end(),
      failed: (error) => this.#fail(error),
    });
    this.#ownSockets.push(core.ownSockets.add(wiring.fd));
    if (owner.grants === undefined) core.deadlines.watch();
    this.spares = new Spares({
      core,
      owner,
      setTimer: (delayMs, callback) => reactor.setTimer(delayMs, callback),
      tellDropped: (manager, serial) => this.send(manager, "shmlink_manager_v1", { kind: "spare_dropped", serial }),
    });
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** Whether the peer has gone, and only what it had said before is still to be handled. Not after end(). */
  get isLeft(): boolean {
    return this.#watch.isLeft;
  }

  /** Queues an event; settle() sends it. Events to a session that has ended are dropped, their descriptors closed. */
  send<N extends InterfaceName>(object: ObjectId, name: N, event: Events<OwnedFd>[N]): void {
    if (this.#ended) return dropEvent(event);
    this.output.touch();
    try {
      this.#connection.send(object, name, withSentence(event));
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
    this.output.setDoorbell(fd);
  }

  /** A socket that must not be relayed while we live. */
  trackOwnSocket(fd: BorrowedFd): void {
    this.#ownSockets.push(this.core.ownSockets.add(fd));
  }

  /** The request at hand is as much work as `count` of the usual kind: it uses up that much of the turn and of the rate. */
  countAs(count: number): void {
    this.#connection.spendMessages(count - 1);
  }

  /** Sends what is queued, once per turn of the reactor, and rings the doorbell for it. */
  settle(): void {
    if (this.#ended || !this.output.isDirty) return;
    try {
      this.output.flush();
      if (!this.#ended) this.#account.settle();
    } catch (error) {
      return this.#fail(error);
    }
    this.output.ring();
  }

  #ready(events: number): void {
    if ((events & EPOLLOUT) !== 0) this.output.touch();
    if ((events & ~EPOLLOUT) !== 0) this.#input.ready((events & (EPOLLHUP | EPOLLERR)) !== 0);
  }

  #handle(message: AnyRequest<OwnedFd>): void {
    this.handled += 1;
    if (!this.#ended) handleRequest(this, message);
  }

  /** What is queued now is accounted for when it is sent, and costs nothing then. */
  #settleAccount(): void {
    if (!this.#ended && !this.output.isDirty) this.#account.settle();
  }

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

  /** @param error  the peer's fault or the system's refusal; a bug ends the broker */
  #fail(error: unknown): void {
    if (this.#ended) return;
    const who = { ...whoIs(this.owner), name: this.name };
    sayWhy(error, { connection: this.#connection, logger: this.core.logger, who, manager: this.manager });
    this.end();
  }

  /** Ends the session and gives back what it held. Safe to call twice. */
  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#watch.remove();
    this.#input.close();
    this.output.close();
    for (const object of [...this.handles.keys()]) this.release(object);
    this.spares.close();
    this.#account.close();
    for (const ino of this.#ownSockets) this.core.ownSockets.remove(ino);
    this.#connection[Symbol.dispose]();
    this.core.touched.delete(this);
    this.#onEnd(this);
  }
}

/** A refusal may name programs and files, and a path alone can be as long as a message may be. */
function withSentence<E extends object>(event: E): E {
  if (!("message" in event) || typeof event.message !== "string") return event;
  return { ...event, message: plainText(event.message, MAX_SENTENCE_BYTES) };
}

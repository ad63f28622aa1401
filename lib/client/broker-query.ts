/**
 * A connection to the broker for who asks and registers, without channels: `ls`, `inspect`, `wrap`. Blocking calls
 * wait in poll(2); a reactor can instead watch `fd` and call dispatch(). broker-link.ts adds channels.
 */
import {
  type BorrowedFd,
  constants,
  duplicateFd,
  type OwnedFd,
  open,
  pollOne,
  SyscallError,
  setNonBlocking,
  setReceiveTimeout,
} from "../../ffi/mod.ts";
import { FailureError } from "../errors.ts";
import { ClientConnection } from "../protocol/client-connection.ts";
import type { AnyEvent } from "../protocol/messages.ts";
import { UnixTransport } from "../transport/unix.ts";
import type { ObjectId } from "../util/brand.ts";
import { type ConnectOptions, connectWith, isHandedDown, type Reached, reach } from "./connect.ts";
import { type Entry, entryOf } from "./entry.ts";
import { type GrantSpec, rightsOf } from "./grant.ts";
import { Listener, type ListenerOptions } from "./listener.ts";

const DISPLAY = 1 as ObjectId;
/** Of the one global. */
const MANAGER_NAME = 1;
/** Longest wait for an answer of the broker to a request that it answers at once. */
export const ANSWER_MS = 10_000;

/** Objects that a client lets go of. */
export type Destroyable =
  | "shmlink_service_v1"
  | "shmlink_channel_v1"
  | "shmlink_listener_v1"
  | "shmlink_offer_v1"
  | "shmlink_delivery_v1"
  | "shmlink_grant_v1"
  | "shmlink_context_v1";

/** Takes the events of one object. */
export type EventSink = (event: AnyEvent<OwnedFd>) => void;

export type WaitOutcome = "done" | "ended" | "timeout";

export class BrokerQuery implements Disposable {
  protected connection: ClientConnection;
  protected readonly sinks: Map<ObjectId, EventSink> = new Map();
  #fd: BorrowedFd;
  #registry: ObjectId = DISPLAY;
  #manager: ObjectId = DISPLAY;
  /** The same manager as what this broker calls it in its newest version, once that is asked for something. */
  #newestManager: ObjectId | undefined;
  #managerVersion = 1;
  #ended = false;
  #closed = false;
  #generation = 0;
  /** Whether the socket was handed down, and somebody else may have it as well. */
  #isShared = true;
  /** SO_RCVTIMEO of the socket, once it is blocking. */
  #receiveTimeoutMs: number | undefined;
  /** The broker's version and the largest ring it grants, from its welcome. */
  welcome: { readonly version: string; readonly uid: number; readonly maxCapacity: number } | undefined;

  /** Rights that this connection has lost, oldest first; the caller may empty it. */
  readonly revoked: GrantSpec[] = [];

  /** Use connect(). Takes `fd`. */
  protected constructor(fd: OwnedFd) {
    this.#fd = fd;
    this.connection = this.#connectionOver(fd);
  }

  /** Connects, starts a broker if there is none, and says hello. Blocks until the broker has answered.
   *  @throws FailureError "no-broker": none answers and none could be started */
  static connect(options: ConnectOptions): BrokerQuery {
    return connectWith(options, (fd) => new BrokerQuery(fd));
  }

  /** Connects without waiting: watch `fd` and dispatch() until there is a `welcome`.
   *  @throws FailureError "no-broker", SyscallError  @returns also who can say why it ended, if it does */
  static approach(options: ConnectOptions): { readonly link: BrokerQuery; readonly explain: Reached["explain"] } {
    const { fd, explain } = reach(options);
    const link = new BrokerQuery(fd);
    try {
      link.greet(options);
      return { link, explain };
    } catch (error) {
      link.close();
      throw error;
    }
  }

  get fd(): BorrowedFd {
    return this.#fd;
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** Whether close() was called. */
  get closed(): boolean {
    return this.#closed;
  }

  /** Counts the connections that this one has been: an object belongs to one of them. */
  get generation(): number {
    return this.#generation;
  }

  /** Goes on with a fresh connection, where nobody has said hello; takes `fd`. What the old one knew is gone. */
  protected adopt(fd: OwnedFd): void {
    this.connection[Symbol.dispose]();
    this.sinks.clear();
    this.#fd = fd;
    this.connection = this.#connectionOver(fd);
    this.welcome = undefined;
    this.#newestManager = undefined;
    this.#managerVersion = 1;
    this.#receiveTimeoutMs = undefined;
    this.#ended = false;
    this.#generation += 1;
  }

  /** The fresh connection came to nothing. */
  protected abandon(): void {
    this.#ended = true;
    this.connection[Symbol.dispose]();
  }

  /** Says hello on a fresh connection. @returns false when the broker ended meanwhile (an idle exit, say)
   *  @throws FailureError "no-broker" when it is there and does not answer */
  hello(options: ConnectOptions): boolean {
    this.greet(options);
    const outcome = this.wait(() => this.welcome !== undefined, ANSWER_MS);
    if (outcome !== "timeout") return outcome === "done";
    throw new FailureError("no-broker", "Cannot use the broker: it is there and does not answer; end it and try again");
  }

  /** Sends hello; the answer sets `welcome`. What every broker understands is said before it has told its version, so that
   *  nobody waits for that. */
  protected greet(options: ConnectOptions): void {
    this.#isShared = isHandedDown(options.env);
    const registry = this.connection.newObject("wl_registry");
    this.connection.request(DISPLAY, "wl_display", { kind: "get_registry", registry });
    this.#registry = registry;
    this.sinks.set(registry, ({ event }) => {
      if (event.kind === "global" && event.name === MANAGER_NAME) this.#managerVersion = event.version;
    });
    this.#manager = this.#bindManager(1);
    this.sinks.set(this.#manager, ({ event }) => {
      if (event.kind === "revoked") this.revoked.push({ rights: rightsOf(event.rights), name: event.name });
      if (event.kind !== "welcome") return;
      const { version, uid, maxCapacity } = event;
      this.welcome = { version, uid, maxCapacity };
    });
    const doorbell = this.makeDoorbell(options);
    this.connection.request(this.#manager, "shmlink_manager_v1", {
      kind: "hello",
      name: options.name.slice(0, 64),
      doorbell,
    });
    this.connection.flush();
  }

  #bindManager(version: number): ObjectId {
    const id = this.connection.newObject("shmlink_manager_v1");
    const bind = { kind: "bind", name: MANAGER_NAME, interface: "shmlink_manager_v1", version, id } as const;
    this.connection.request(this.#registry, "wl_registry", bind);
    return id;
  }

  /** The descriptor for hello: no socket, so no doorbell. */
  protected makeDoorbell(_options: ConnectOptions): OwnedFd {
    return open("/dev/null", constants.O_RDONLY);
  }

  /** Does what one broker is asked for. A connection that comes back does it once more, if the broker ended over it. */
  protected ask<T>(act: () => T): T {
    return act();
  }

  /** What the broker knows: everything, or what a name or id means. */
  list(selector = ""): Entry[] {
    return this.ask(() => this.#list(selector));
  }

  #list(selector: string): Entry[] {
    const id = this.connection.newObject("shmlink_listing_v1");
    const entries: Entry[] = [];
    let done = false;
    this.sinks.set(id, ({ event }) => {
      if (event.kind === "entry") entries.push(entryOf(event));
      else if (event.kind === "done") done = true;
    });
    this.request({ kind: "list", id, selector });
    this.answer(() => done, "the broker's listing");
    this.sinks.delete(id);
    return entries;
  }

  /** Registers a wrapped listener; the counters stay the caller's. @throws FailureError name-in-use, denied, quota */
  registerListener(options: ListenerOptions): Listener {
    const listener = this.requestListener(options);
    this.answer(() => listener.settled, "the broker to register a listener");
    if (listener.failure === undefined) return listener;
    listener.close();
    throw listener.failure;
  }

  /** registerListener() without waiting: dispatch() until it is settled. */
  requestListener(options: ListenerOptions): Listener {
    const id = this.connection.newObject("shmlink_listener_v1");
    const listener = new Listener(this, id);
    this.sinks.set(id, (message) => listener.handle(message));
    const { counters, ...rest } = options;
    this.request({ kind: "register_listener", id, ...rest, counters: duplicateFd(counters) });
    this.connection.flush();
    return listener;
  }

  /** Who listens on a TCP address. */
  resolve(address: string, port: number): { readonly path: string; readonly id: number } | undefined {
    const id = this.connection.newObject("shmlink_resolution_v1");
    let answer: { path: string; id: number } | "none" | undefined;
    this.sinks.set(id, ({ event }) => {
      answer = event.kind === "found" ? { path: event.path, id: event.listenerId } : "none";
    });
    this.request({ kind: "resolve", id, address, port });
    this.answer(() => answer !== undefined, `an answer about ${address}:${port}`);
    this.sinks.delete(id);
    return answer === "none" ? undefined : answer;
  }

  /** Tells the broker that a connection to a registered listener went over TCP after all. */
  reportFallback(address: string, port: number, reason: string): void {
    this.request({ kind: "report_fallback", address, port, reason });
    this.connection.flush();
  }

  /** Queues a request of the manager. */
  request(request: Parameters<ClientConnection["request"]>[2]): void {
    this.connection.request(this.#manager, "shmlink_manager_v1", request as never);
  }

  /** Queues a request of the manager that came with version 2. @throws FailureError "unsupported" by an older broker */
  requestNew(request: Parameters<ClientConnection["request"]>[2], what: string): void {
    if (!this.isBrokerNew)
      throw new FailureError(
        "unsupported",
        `Cannot ${what}: the broker that runs is older; end it, and the next is newer`,
      );
    this.connection.request(this.#newManager, "shmlink_manager_v1", request as never);
  }

  /** Whether the broker knows version 2. */
  protected get isBrokerNew(): boolean {
    return this.#managerVersion >= 2;
  }

  /** Queues a request whose object is to be of the broker's newest version. */
  protected requestNewest(request: Parameters<ClientConnection["request"]>[2]): void {
    const manager = this.isBrokerNew ? this.#newManager : this.#manager;
    this.connection.request(manager, "shmlink_manager_v1", request as never);
  }

  get #newManager(): ObjectId {
    if (this.#newestManager !== undefined) return this.#newestManager;
    const id = this.#bindManager(2);
    this.sinks.set(id, (message) => this.managerSaid(message));
    this.#newestManager = id;
    return id;
  }

  #connectionOver(fd: OwnedFd): ClientConnection {
    const connection = new ClientConnection(new UnixTransport(fd));
    connection.onDropped = (message) => this.wasDropped(message);
    return connection;
  }

  /** An event to an object that we had destroyed. */
  protected wasDropped(_message: AnyEvent<OwnedFd>): void {}

  /** An event of the manager in its newest version. */
  protected managerSaid(_message: AnyEvent<OwnedFd>): void {}

  /** Destroys an object; events that are still on their way are dropped.
   *  @param generation  when it was made  @param now  false where the broker may hear of it with the next request */
  forget(id: ObjectId, name: Destroyable, generation: number, now = true): void {
    if (generation !== this.#generation) return;
    this.sinks.delete(id);
    if (this.#ended) return;
    try {
      this.connection.request(id, name, { kind: "destroy" });
      if (now) this.connection.flush();
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error; // the broker is gone, and with it the object
    }
  }

  /** Handles what has arrived, without waiting. @throws FailureError for wl_display.error */
  dispatch(): "open" | "ended" {
    return this.#step(Number.POSITIVE_INFINITY);
  }

  #step(budgetBytes: number, wait = false): "open" | "ended" {
    if (this.#ended) return "ended";
    this.connection.flush();
    const state = this.connection.pump(this.#route, budgetBytes, wait);
    this.connection.flush();
    if (state === "ended") this.#ended = true;
    return state;
  }

  readonly #route = (message: AnyEvent<OwnedFd>): void => this.sinks.get(message.object)?.(message);

  /** Blocks until `until` is true, the broker ends, or the time is over. @param timeoutMs  -1 for no limit */
  wait(until: () => boolean, timeoutMs: number): WaitOutcome {
    const deadline = Date.now() + timeoutMs;
    let state = this.#step(0);
    // Most answers come at once and alone: the first sleep is recvmsg(2) itself, which is woken faster than poll(2).
    if (!until() && state === "open" && this.#sleepInReceive(timeoutMs)) state = this.#step(1, true);
    for (; ; state = this.#step(1)) {
      if (until()) return "done";
      if (state === "ended") return "ended";
      const left = timeoutMs < 0 ? -1 : Math.max(deadline - Date.now(), 0);
      const events = this.connection.queuedBytes > 0 ? constants.EPOLLIN | constants.EPOLLOUT : constants.EPOLLIN;
      const happened = pollOne(this.#fd, events, left);
      if (happened === 0 && left === 0) return "timeout";
    }
  }

  /** Prepares for a receive that waits. Everything else is called with MSG_DONTWAIT, so it makes no difference to them.
   *  @returns false where poll(2) has to do: there is output to be sent, or the socket may not be ours alone */
  #sleepInReceive(timeoutMs: number): boolean {
    if (this.#isShared || timeoutMs === 0 || this.connection.queuedBytes > 0) return false;
    if (this.#receiveTimeoutMs === timeoutMs) return true;
    if (this.#receiveTimeoutMs === undefined) setNonBlocking(this.#fd, false);
    setReceiveTimeout(this.#fd, Math.max(timeoutMs, 0));
    this.#receiveTimeoutMs = timeoutMs;
    return true;
  }

  protected answer(until: () => boolean, what: string): void {
    const outcome = this.wait(until, ANSWER_MS);
    if (outcome === "ended") throw brokerGone(`wait for ${what}`);
    if (outcome === "timeout")
      throw new FailureError("timeout", `Cannot wait for ${what} any longer: the broker is silent`);
  }

  /** Ends the connection: services are withdrawn, channels live on. Safe to call twice. */
  close(): void {
    this.#closed = true;
    this.#ended = true;
    this.connection[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** The broker ended, and not whom it was asked for. */
export class BrokerGone extends FailureError {}

export function brokerGone(what: string): BrokerGone {
  return new BrokerGone("gone", `Cannot ${what}: the broker ended the connection`);
}

/**
 * A connection to the broker, seen from an application or a command. Blocking calls wait in poll(2); a reactor can
 * instead watch `fd` and call dispatch(). The broker's end does not touch channels that are whole.
 */
import {
  type BorrowedFd,
  constants,
  duplicateFd,
  errno,
  type OwnedFd,
  open,
  poll,
  SyscallError,
  socket,
  connect as socketConnect,
  socketpair,
  unixAddress,
} from "../../ffi/mod.ts";
import { AsyncDoorbell } from "../channel/async-doorbell.ts";
import type { Channel } from "../channel/channel.ts";
import { FailureError } from "../errors.ts";
import { type AnyEvent, ClientConnection } from "../protocol/connection.ts";
import { brokerSocketPath, checkSocketDirectory } from "../transport/socket-path.ts";
import { UnixTransport } from "../transport/unix.ts";
import type { ObjectId } from "../util/brand.ts";
import { startBroker } from "./activate.ts";
import { type Entry, entryOf } from "./entry.ts";
import { Listener, type ListenerOptions } from "./listener.ts";
import { ListenerRegistry } from "./listener-registry.ts";
import { PendingChannel } from "./pending-channel.ts";
import { Service } from "./service.ts";

const DISPLAY = 1 as ObjectId;
const START_ATTEMPTS = 3;
/** Longest wait for an answer of the broker to a request that it answers at once. */
export const ANSWER_MS = 10_000;

export type ConnectOptions = {
  /** What we call ourselves in listings: 1 to 64 characters. */
  readonly name: string;
  /** Where to look for SHMLINK_SOCKET and the like; process.env by default. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Start a broker when none answers; true by default. */
  readonly start?: boolean;
  /** Ask for a doorbell, so that the *Async methods work; false by default. */
  readonly wake?: boolean;
};

export type DialOptions = {
  /** Bytes of our ring, a power of two; the broker's default without it. */
  readonly capacity?: number;
  /** Longest wait for the other side to take its part in the set-up. */
  readonly timeoutMs?: number;
};

export type { Entry } from "./entry.ts";

/** Takes the events of one object. */
export type EventSink = (event: AnyEvent<OwnedFd>) => void;

export class BrokerLink implements Disposable {
  readonly #connection: ClientConnection;
  readonly #fd: BorrowedFd;
  readonly #sinks: Map<ObjectId, EventSink> = new Map();
  #manager: ObjectId = DISPLAY;
  #doorbell: AsyncDoorbell | undefined;
  #doorbellFd: OwnedFd | undefined;
  #ended = false;
  /** The broker's version and the largest ring it grants, from its welcome. */
  welcome: { readonly version: string; readonly uid: number; readonly maxCapacity: number } | undefined;

  private constructor(fd: OwnedFd) {
    this.#fd = fd;
    this.#connection = new ClientConnection(new UnixTransport(fd));
  }

  /**
   * Connects, starts a broker if there is none, and says hello. Blocks until the broker has answered.
   * @throws FailureError "no-broker": none answers and none could be started; "denied": it does not want us
   */
  static connect(options: ConnectOptions): BrokerLink {
    const env = options.env ?? process.env;
    const uid = process.geteuid?.() ?? 0;
    const path = brokerSocketPath(env, uid);
    checkSocketDirectory(path, uid);
    for (let attempt = 1; ; attempt++) {
      const fd = connectTo(path);
      if (fd !== undefined) {
        const link = greet(new BrokerLink(fd), options);
        if (link !== undefined) return link;
      }
      if (attempt > START_ATTEMPTS || options.start === false) throw noBroker(path, options.start !== false);
      if (fd === undefined) startBroker(path, env, uid);
    }
  }

  get fd(): BorrowedFd {
    return this.#fd;
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** Says hello on a fresh connection. @returns false when the broker ended meanwhile (an idle exit, say) */
  hello(options: ConnectOptions): boolean {
    const registry = this.#connection.newObject("wl_registry");
    this.#connection.request(DISPLAY, "wl_display", { kind: "get_registry", registry });
    this.#manager = this.#connection.newObject("shmlink_manager_v1");
    this.#connection.request(registry, "wl_registry", {
      kind: "bind",
      name: 1,
      interface: "shmlink_manager_v1",
      version: 1,
      id: this.#manager,
    });
    this.#sinks.set(this.#manager, ({ event }) => {
      if (event.kind !== "welcome") return;
      const { version, uid, maxCapacity } = event;
      this.welcome = { version, uid, maxCapacity };
    });
    const doorbell = options.wake === true ? this.#makeDoorbell() : open("/dev/null", constants.O_RDONLY);
    this.#connection.request(this.#manager, "shmlink_manager_v1", {
      kind: "hello",
      name: options.name.slice(0, 64),
      doorbell,
    });
    return this.wait(() => this.welcome !== undefined, ANSWER_MS) === "done";
  }

  #makeDoorbell(): OwnedFd {
    const [ours, theirs] = socketpair(constants.SOCK_STREAM | constants.SOCK_NONBLOCK);
    this.#doorbellFd = ours;
    this.#doorbell = new AsyncDoorbell(ours);
    return theirs;
  }

  /** Offers a service. @throws FailureError name-in-use, denied, quota */
  listen(name: string, options: { readonly capacity?: number } = {}): Service {
    const id = this.#connection.newObject("shmlink_service_v1");
    const service = new Service(this, id, name);
    this.#sinks.set(id, (message) => service.handle(message));
    this.request({ kind: "listen", id, name, capacity: options.capacity ?? 0 });
    this.#answer(() => service.settled, `the broker to offer "${name}"`);
    if (service.failure !== undefined) {
      this.forget(id, "shmlink_service_v1");
      throw service.failure;
    }
    return service;
  }

  /** Opens a channel to a service and waits until it is whole.
   *  @throws FailureError unknown-name, denied, quota, gone, refused, timeout */
  dial(name: string, options: DialOptions = {}): Channel {
    const pending = this.#startDial(name, options);
    const outcome = this.wait(() => pending.outcome !== undefined, options.timeoutMs ?? ANSWER_MS);
    return this.#finishDial(pending, outcome, name);
  }

  /** dial() for an event loop; needs `wake: true` at connect. */
  async dialAsync(name: string, options: DialOptions = {}): Promise<Channel> {
    const pending = this.#startDial(name, options);
    const outcome = await this.waitAsync(() => pending.outcome !== undefined, options.timeoutMs ?? ANSWER_MS);
    return this.#finishDial(pending, outcome, name);
  }

  #startDial(name: string, options: DialOptions): PendingChannel {
    const id = this.#connection.newObject("shmlink_channel_v1");
    const pending = this.track(id, name);
    this.request({ kind: "dial", id, name, capacity: options.capacity ?? 0 });
    return pending;
  }

  #finishDial(pending: PendingChannel, outcome: WaitOutcome, name: string): Channel {
    if (pending.outcome !== undefined) return pending.take();
    pending.cancel();
    if (outcome === "ended") throw brokerGone(`dial "${name}"`);
    throw new FailureError("timeout", `Cannot dial "${name}": the other side did not answer in time`);
  }

  /** Follows the set-up of a channel whose object is `id`. */
  track(id: ObjectId, name: string): PendingChannel {
    const pending = new PendingChannel(this, id, name);
    this.#sinks.set(id, (message) => pending.handle(message));
    return pending;
  }

  /** What the broker knows: everything, or what a name or id means. */
  list(selector = ""): Entry[] {
    const id = this.#connection.newObject("shmlink_listing_v1");
    const entries: Entry[] = [];
    let done = false;
    this.#sinks.set(id, ({ event }) => {
      if (event.kind === "entry") entries.push(entryOf(event));
      else if (event.kind === "done") done = true;
    });
    this.request({ kind: "list", id, selector });
    this.#answer(() => done, "the broker's listing");
    this.#sinks.delete(id);
    return entries;
  }

  /** Registers a wrapped listener; the counters stay the caller's. @throws FailureError name-in-use, denied, quota */
  registerListener(options: ListenerOptions): Listener {
    const id = this.#connection.newObject("shmlink_listener_v1");
    const listener = new Listener(this, id);
    this.#sinks.set(id, (message) => listener.handle(message));
    const { counters, ...rest } = options;
    this.request({ kind: "register_listener", id, ...rest, counters: duplicateFd(counters) });
    this.#answer(() => listener.settled, "the broker to register a listener");
    if (listener.failure !== undefined) {
      this.forget(id, "shmlink_listener_v1");
      throw listener.failure;
    }
    return listener;
  }

  /** Who listens on a TCP address. */
  resolve(address: string, port: number): { readonly path: string; readonly id: number } | undefined {
    const id = this.#connection.newObject("shmlink_resolution_v1");
    let answer: { path: string; id: number } | "none" | undefined;
    this.#sinks.set(id, ({ event }) => {
      answer = event.kind === "found" ? { path: event.path, id: event.listenerId } : "none";
    });
    this.request({ kind: "resolve", id, address, port });
    this.#answer(() => answer !== undefined, `an answer about ${address}:${port}`);
    this.#sinks.delete(id);
    return answer === "none" ? undefined : answer;
  }

  /** Tells the broker that a connection to a registered listener went over TCP after all. */
  reportFallback(address: string, port: number, reason: string): void {
    this.request({ kind: "report_fallback", address, port, reason });
    this.#connection.flush();
  }

  /** This connection as a supervisor of wrapped programs uses it. */
  registry(): ListenerRegistry {
    return new ListenerRegistry(this);
  }

  /** Queues a request of the manager. */
  request(request: Parameters<ClientConnection["request"]>[2]): void {
    this.#connection.request(this.#manager, "shmlink_manager_v1", request as never);
  }

  /** Queues "mapped" for a channel. */
  confirmMapped(id: ObjectId): void {
    this.#connection.request(id, "shmlink_channel_v1", { kind: "mapped" });
    this.#connection.flush();
  }

  /** Destroys an object; events that are still on their way are dropped. */
  forget(id: ObjectId, name: "shmlink_service_v1" | "shmlink_channel_v1" | "shmlink_listener_v1"): void {
    this.#sinks.delete(id);
    if (this.#ended) return;
    try {
      this.#connection.request(id, name, { kind: "destroy" });
      this.#connection.flush();
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error; // the broker is gone, and with it the object
    }
  }

  /** Handles what has arrived, without waiting. @throws FailureError for wl_display.error */
  dispatch(): "open" | "ended" {
    if (this.#ended) return "ended";
    this.#connection.flush();
    const state = this.#connection.pump((message) => this.#sinks.get(message.object)?.(message));
    this.#connection.flush();
    if (state === "ended") this.#ended = true;
    return state;
  }

  /** Blocks until `until` is true, the broker ends, or the time is over. @param timeoutMs  -1 for no limit */
  wait(until: () => boolean, timeoutMs: number): WaitOutcome {
    const deadline = Date.now() + timeoutMs;
    for (;;) {
      const state = this.dispatch();
      if (until()) return "done";
      if (state === "ended") return "ended";
      const left = timeoutMs < 0 ? -1 : deadline - Date.now();
      if (timeoutMs >= 0 && left <= 0) return "timeout";
      const events = this.#connection.queuedBytes > 0 ? constants.EPOLLIN | constants.EPOLLOUT : constants.EPOLLIN;
      poll([{ fd: this.#fd, events }], left);
    }
  }

  /** wait() for an event loop. @param timeoutMs  -1 for no limit */
  async waitAsync(until: () => boolean, timeoutMs: number): Promise<WaitOutcome> {
    const doorbell = this.#doorbell;
    if (doorbell === undefined) throw new TypeError("Cannot wait asynchronously: connect with { wake: true }");
    let expired = false;
    const expire = (): void => {
      expired = true;
      doorbell.notify();
    };
    const timer = timeoutMs < 0 ? undefined : setTimeout(expire, timeoutMs);
    try {
      for (;;) {
        const state = this.dispatch();
        if (until()) return "done";
        if (state === "ended") return "ended";
        if (expired) return "timeout";
        await doorbell.wait();
      }
    } finally {
      clearTimeout(timer);
    }
  }

  #answer(until: () => boolean, what: string): void {
    const outcome = this.wait(until, ANSWER_MS);
    if (outcome === "ended") throw brokerGone(`wait for ${what}`);
    if (outcome === "timeout")
      throw new FailureError("timeout", `Cannot wait for ${what} any longer: the broker is silent`);
  }

  /** Ends the connection: services are withdrawn, channels live on. Safe to call twice. */
  close(): void {
    this.#ended = true;
    this.#doorbell?.close();
    this.#doorbell = undefined;
    this.#doorbellFd?.close();
    this.#connection[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

export type WaitOutcome = "done" | "ended" | "timeout";

function connectTo(path: string): OwnedFd | undefined {
  const fd = socket(constants.AF_UNIX, constants.SOCK_STREAM | constants.SOCK_NONBLOCK);
  try {
    socketConnect(fd, unixAddress(path), path);
    return fd;
  } catch (error) {
    fd.close();
    if (!(error instanceof SyscallError)) throw error;
    if (error.errno === errno.ENOENT || error.errno === errno.ECONNREFUSED) return undefined;
    const hint = error.errno === errno.EACCES ? "it belongs to another user; set SHMLINK_SOCKET" : "is it overloaded?";
    throw new FailureError("no-broker", `Cannot reach the broker at "${path}": ${error.message}; ${hint}`, {
      cause: error,
    });
  }
}

/** @returns undefined when the broker ended before it answered: an idle exit just then */
function greet(link: BrokerLink, options: ConnectOptions): BrokerLink | undefined {
  try {
    if (link.hello(options)) return link;
  } catch (error) {
    link.close();
    if (error instanceof SyscallError && (error.errno === errno.ECONNRESET || error.errno === errno.EPIPE))
      return undefined;
    throw error;
  }
  link.close();
  return undefined;
}

function noBroker(path: string, tried: boolean): FailureError {
  const what = tried
    ? 'none could be started; see broker.log beside it, or run "shmlink broker"'
    : 'start one with "shmlink broker"';
  return new FailureError("no-broker", `Cannot reach a broker at "${path}": ${what}`);
}

function brokerGone(what: string): FailureError {
  return new FailureError("gone", `Cannot ${what}: the broker ended the connection`);
}

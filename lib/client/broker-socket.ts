/**
 * The socket to a broker, and waiting there: what arrives goes to the objects it is for. Blocking calls wait in recvmsg(2)
 * and poll(2); a reactor can instead watch `fd` and call dispatch(). What is said on it is greeted-link.ts's.
 */
import {
  type BorrowedFd,
  constants,
  type OwnedFd,
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
import { brokerGone } from "./failure.ts";

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

export abstract class BrokerSocket implements Disposable {
  protected connection: ClientConnection;
  protected readonly sinks: Map<ObjectId, EventSink> = new Map();
  #fd: BorrowedFd;
  #ended = false;
  #closed = false;
  #generation = 0;
  /** Whether the socket was handed down, and somebody else may have it as well. */
  protected isShared = true;
  /** SO_RCVTIMEO of the socket, once it is blocking. */
  #receiveTimeoutMs: number | undefined;

  /** Use connect(). Takes `fd`. */
  protected constructor(fd: OwnedFd) {
    this.#fd = fd;
    this.connection = this.#connectionOver(fd);
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
    this.#receiveTimeoutMs = undefined;
    this.#ended = false;
    this.#generation += 1;
  }

  /** The fresh connection came to nothing. */
  protected abandon(): void {
    this.#ended = true;
    this.connection[Symbol.dispose]();
  }

  #connectionOver(fd: OwnedFd): ClientConnection {
    const connection = new ClientConnection(new UnixTransport(fd));
    connection.onDropped = (message) => this.wasDropped(message);
    return connection;
  }

  /** An event to an object that we had destroyed. */
  protected wasDropped(_message: AnyEvent<OwnedFd>): void {}

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
    const start = Date.now();
    const deadline = start + timeoutMs;
    // Most answers come at once: until then what sleeps is recvmsg(2) itself, which is woken faster than poll(2). Each may
    // sleep for the whole time, so not for long: what is over is over a hundredth later at most.
    const isEarly = (): boolean => timeoutMs < 0 || Date.now() - start < timeoutMs / 100;
    let state = this.#step(0);
    while (!until() && state === "open" && isEarly() && this.#sleepInReceive(timeoutMs)) state = this.#step(1, true);
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
    if (this.isShared || timeoutMs === 0 || this.connection.queuedBytes > 0) return false;
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

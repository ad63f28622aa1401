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
import { deadlineOf } from "../util/milliseconds.ts";
import { brokerGone } from "./failure.ts";
import { SleepChoice } from "./sleep-choice.ts";

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
  /** Whether it has been made so, with ANSWER_MS as SO_RCVTIMEO. */
  #isBlocking = false;
  readonly #sleeping: SleepChoice = new SleepChoice();

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
    this.#isBlocking = false;
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

  /** Blocks until `until` is true, the broker ends, or the time is over. It sleeps in poll(2), see SleepChoice: until somebody
   *  else has done something, being woken early is of no use. @param timeoutMs  -1 for no limit */
  wait(until: () => boolean, timeoutMs: number): WaitOutcome {
    const deadlineMs = deadlineOf(timeoutMs, "timeoutMs");
    return this.#outcome(until, this.#step(0)) ?? this.#poll(until, timeoutMs, deadlineMs);
  }

  /** wait() for what the broker answers at once and alone. */
  protected waitBriefly(until: () => boolean): WaitOutcome {
    const startMs = performance.now();
    const deadlineMs = startMs + ANSWER_MS;
    // Each may sleep for the whole time, so not for long: what is over is over a hundredth later at most.
    const isEarly = (): boolean => leftUntil(deadlineMs) > ANSWER_MS * 0.99;
    const inReceive = this.#sleeping.isInReceive && this.#canSleepInReceive();
    let state = this.#step(0);
    while (inReceive && !until() && state === "open" && this.connection.queuedBytes === 0 && isEarly())
      state = this.#step(1, true);
    const outcome = this.#outcome(until, state) ?? this.#poll(until, leftUntil(deadlineMs), deadlineMs);
    this.#sleeping.took(performance.now() - startMs);
    return outcome;
  }

  #outcome(until: () => boolean, state: "open" | "ended"): WaitOutcome | undefined {
    if (until()) return "done";
    return state === "ended" ? "ended" : undefined;
  }

  /** @param firstMs  what is left: the clock is asked only when what came first was not it */
  #poll(until: () => boolean, firstMs: number, deadlineMs: number): WaitOutcome {
    for (let leftMs = firstMs; ; leftMs = leftUntil(deadlineMs)) {
      const events = this.connection.queuedBytes > 0 ? constants.EPOLLIN | constants.EPOLLOUT : constants.EPOLLIN;
      if (pollOne(this.#fd, events, leftMs) === 0 && leftMs === 0) return "timeout";
      const outcome = this.#outcome(until, this.#step(1));
      if (outcome !== undefined) return outcome;
    }
  }

  /** Prepares for a receive that waits. Everything else is called with MSG_DONTWAIT, so it makes no difference to them.
   *  @returns false where poll(2) has to do, since the socket may not be ours alone */
  #canSleepInReceive(): boolean {
    if (this.isShared) return false;
    if (this.#isBlocking) return true;
    setNonBlocking(this.#fd, false);
    setReceiveTimeout(this.#fd, ANSWER_MS);
    this.#isBlocking = true;
    return true;
  }

  /** @param isBrief  whether the broker gives it at once and alone */
  protected answer(until: () => boolean, what: string, isBrief = false): void {
    const outcome = isBrief ? this.waitBriefly(until) : this.wait(until, ANSWER_MS);
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

/** @returns milliseconds, -1 for no limit */
function leftUntil(deadlineMs: number): number {
  return deadlineMs === Number.POSITIVE_INFINITY ? -1 : Math.max(deadlineMs - performance.now(), 0);
}

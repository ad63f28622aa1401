/**
 * A connection to the broker that comes back, in a reactor and without ever waiting there: when the broker ends, killed
 * or replaced, the next one is found or started as any client does it, and the owner told. What is refused is final,
 * and so is a connection that was handed down; whatever else goes wrong is tried again (back-off.ts).
 */
import { constants, SyscallError } from "../../ffi/mod.ts";
import { FailureError, ProtocolError } from "../errors.ts";
import type { Logger } from "../log.ts";
import type { Reactor, Registration, TimerHandle } from "../transport/reactor.ts";
import { BackOff } from "./back-off.ts";
import type { Approached, BrokerQuery } from "./broker-query.ts";
import { type ConnectOptions, isHandedDown } from "./connect.ts";

/** So many tries are nobody's business: a broker that is just ending, another one that is just starting. */
const SILENT_TRIES = 4;

export type LastingOptions<L> = {
  readonly connect: ConnectOptions;
  readonly logger: Logger;
  /** Connects without waiting for the welcome. @throws FailureError, SyscallError */
  readonly approach: (options: ConnectOptions) => Approached<L>;
};

/** What the owner hears. */
export type LastingEvents<L> = {
  /** A new connection: everything is to be told to the broker again. */
  onBack(link: L): void;
  /** Something came from the broker. */
  onInput(): void;
  /** Whoever disposes of us now has had enough. @param cause  what it said against us, if that ended it */
  onLost(cause: ProtocolError | undefined): void;
};

type State<L> =
  | ({ readonly kind: "greeting" | "connected" } & Approached<L>)
  | { readonly kind: "lost" }
  /** It stays as it is. */
  | { readonly kind: "over" };

export class LastingLink<L extends BrokerQuery = BrokerQuery> implements Disposable {
  readonly #options: LastingOptions<L>;
  readonly #events: LastingEvents<L>;
  readonly #isHandedDown: boolean;
  readonly #backOff: BackOff = new BackOff();
  #state: State<L> = { kind: "lost" };
  #reactor: Reactor | undefined;
  #watching: Registration | undefined;
  #timer: TimerHandle | undefined;
  #tries = 0;

  /** @param first  a connection that is there already; taken */
  constructor(first: L | undefined, options: LastingOptions<L>, events: LastingEvents<L>) {
    this.#options = options;
    this.#events = events;
    this.#isHandedDown = isHandedDown(options.connect.env);
    if (first === undefined) return;
    this.#state = { kind: "connected", link: first, explain: () => undefined };
    this.#backOff.connected(performance.now());
  }

  /** The connection, if there is one that the broker has welcomed. */
  get link(): L | undefined {
    return this.#state.kind === "connected" ? this.#state.link : undefined;
  }

  /** Whether no connection will come any more. */
  get isOver(): boolean {
    return this.#state.kind === "over";
  }

  /** From here on it looks after itself. To be called once. */
  attach(reactor: Reactor): void {
    this.#reactor = reactor;
    this.#watch();
    if (this.#state.kind === "lost") this.#schedule();
  }

  /** Asks the broker something. @returns undefined without one, or when it ended or failed over the question */
  ask<T>(question: (link: L) => T): T | undefined {
    if (this.link === undefined) return undefined;
    try {
      return question(this.link);
    } catch (error) {
      this.lose(error);
      return undefined;
    }
  }

  /** A connection that failed is not used any more. @throws `cause` when it is a bug, and not the connection's */
  lose(cause?: unknown): void {
    if (cause !== undefined && !isExpected(cause)) throw cause;
    const state = this.#state;
    if (state.kind !== "connected" && state.kind !== "greeting") return;
    const refusal = cause instanceof ProtocolError ? cause : undefined;
    this.#drop(state.link);
    const isFinal = this.#isHandedDown || (state.kind === "greeting" && refusal !== undefined);
    this.#state = { kind: isFinal ? "over" : "lost" };
    if (isFinal) this.#options.logger.warn(`Without a broker from now on: ${refusal?.message ?? "it has ended"}`);
    else if (state.kind === "greeting") this.#complain(cause ?? state.explain());
    else this.#options.logger.info("The broker has ended: looking for the next one", { why: refusal?.message });
    if (state.kind === "connected") this.#backOff.ended(performance.now());
    this.#events.onLost(refusal);
    if (this.#state.kind === "lost") this.#schedule();
  }

  #drop(link: L): void {
    this.#watching?.remove(); // before it is closed
    this.#watching = undefined;
    link.close();
  }

  #schedule(): void {
    this.#timer = this.#reactor?.setTimer(this.#backOff.next(), () => this.#approach());
  }

  #approach(): void {
    try {
      this.#state = { kind: "greeting", ...this.#options.approach(this.#options.connect) };
    } catch (error) {
      if (!isExpected(error)) throw error;
      this.#complain(error);
      return this.#schedule();
    }
    this.#watch();
  }

  #watch(): void {
    const state = this.#state;
    if (state.kind !== "greeting" && state.kind !== "connected") return;
    this.#watching = this.#reactor?.add(state.link.fd, constants.EPOLLIN, () => this.#read(state.link));
  }

  /** Handles what has come, without the reactor. */
  read(): void {
    if (this.link !== undefined) this.#read(this.link);
  }

  #read(link: L): void {
    try {
      if (link.dispatch() === "ended") return this.lose();
    } catch (error) {
      return this.lose(error);
    }
    if (this.#state.kind === "connected") return this.#events.onInput();
    if (this.#state.kind !== "greeting" || link.welcome === undefined) return;
    this.#state = { ...this.#state, kind: "connected" };
    this.#tries = 0;
    this.#backOff.connected(performance.now());
    this.#options.logger.info("Connected to a broker again");
    this.#events.onBack(link);
  }

  #complain(cause: unknown): void {
    this.#tries += 1;
    if (this.#tries !== SILENT_TRIES) return; // said once
    const why = cause instanceof Error ? cause.message : "the broker ends before it answers";
    this.#options.logger.warn(`${why}; it is tried again`);
  }

  /** Safe to call twice. */
  [Symbol.dispose](): void {
    this.#timer?.cancel();
    if (this.#state.kind === "greeting" || this.#state.kind === "connected") this.#drop(this.#state.link);
    this.#state = { kind: "over" };
  }
}

/** What a broker that breaks the protocol, refuses, is silent or is gone brings, and a system that is short of something. */
function isExpected(error: unknown): boolean {
  if (error instanceof ProtocolError || error instanceof FailureError || error instanceof SyscallError) return true;
  return error instanceof Error && "syscall" in error; // of node:fs
}

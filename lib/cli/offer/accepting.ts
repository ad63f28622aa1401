/** Accepts connections and hands each on. Without a look at its beginning it pauses while too many wait for a taker; with
 *  one it never does, since then a stranger decides how long: who has waited longest gives way. */
import { accept, constants, errno, type OwnedFd, SyscallError } from "../../../ffi/mod.ts";
import type { BrokerLink } from "../../client/broker-link.ts";
import { FailureError } from "../../errors.ts";
import type { Reactor, Registration } from "../../transport/reactor.ts";
import { peekHttpHost } from "../../util/http-host.ts";
import { peekTlsSni } from "../../util/tls-sni.ts";
import { ManyNames, OneName, PATIENCE_MS } from "./handing-on.ts";
import { PEEK_LIMITS, Peeking, type PeekLimits } from "./peeking.ts";

export type PeekKind = "http" | "tls";

export type AcceptOptions = {
  readonly link: BrokerLink;
  readonly reactor: Reactor;
  readonly listener: OwnedFd;
  readonly name: string;
  readonly peek: PeekKind | undefined;
  readonly limits?: PeekLimits;
  /** How long a connection that named its host waits for a taker, at most. */
  readonly patienceMs?: number;
  readonly onDropped: (why: string) => void;
};

const PAUSE_MS = 50;
/** Connections accepted in one turn, so that signals and answers are seen between. */
const BATCH = 32;

export class Accepting implements Disposable {
  readonly #options: AcceptOptions;
  readonly #one: OneName | undefined;
  readonly #many: ManyNames | undefined;
  readonly #peeking: Peeking | undefined;
  #registration: Registration | undefined;
  #timer: { cancel(): void } | undefined;

  constructor(options: AcceptOptions) {
    const { link, reactor, name, peek, limits = PEEK_LIMITS, patienceMs = PATIENCE_MS, onDropped } = options;
    this.#options = options;
    if (peek === undefined) this.#one = new OneName(link.offer(name));
    else {
      const many = new ManyNames({ link, reactor, name, patienceMs, onDropped });
      const look = peek === "http" ? peekHttpHost : peekTlsSni;
      this.#many = many;
      this.#peeking = new Peeking({ reactor, look, limits, onDropped, onHost: (fd, host) => many.pass(fd, host) });
    }
    this.#watch();
  }

  /** Why nothing can be offered any more. */
  get failure(): FailureError | undefined {
    return this.#one?.failure ?? this.#many?.failure;
  }

  get #full(): boolean {
    return this.#one?.full === true;
  }

  #watch(): void {
    this.#registration = this.#options.reactor.add(this.#options.listener, constants.EPOLLIN, () => this.#accept());
  }

  #accept(): void {
    for (let count = 0; count < BATCH; count++) {
      if (this.#full) return this.#pause();
      const connection = this.#next();
      if (connection === undefined) return;
      this.#hand(connection);
    }
  }

  #hand(connection: OwnedFd): void {
    try {
      if (this.#peeking === undefined) this.#one?.pass(connection);
      else this.#peeking.add(connection);
    } catch (error) {
      connection.close();
      if (!(error instanceof FailureError) || error.code === "gone") throw error;
      this.#options.onDropped(error.message);
    }
  }

  /** A blocking one: what takes it knows nothing of us. */
  #next(): OwnedFd | undefined {
    try {
      return accept(this.#options.listener, 0)?.fd;
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
      if (error.errno === errno.EMFILE || error.code === "ENFILE") this.#pause();
      return undefined; // ECONNABORTED and the like: it is gone
    }
  }

  #pause(): void {
    this.#registration?.remove();
    this.#timer = this.#options.reactor.setTimer(PAUSE_MS, () => {
      if (this.#full) this.#pause();
      else this.#watch();
    });
  }

  [Symbol.dispose](): void {
    this.#timer?.cancel();
    this.#registration?.remove();
    this.#peeking?.[Symbol.dispose]();
    this.#many?.[Symbol.dispose]();
  }
}

/**
 * Connections whose first bytes are looked at and left where they are (MSG_PEEK). What one may cost is bounded: bytes,
 * time, and how many of them there are. Where there are too many, the oldest gives way: a stranger who says nothing, or
 * only a little now and then, keeps nobody out.
 *
 * Looking takes nothing away, so the descriptor stays readable: EPOLLET tells only what comes on top, on Unix sockets, too,
 * which know no SO_RCVLOWAT.
 */
import { constants, type OwnedFd, recv, SyscallError } from "../../../ffi/mod.ts";
import type { Reactor } from "../../transport/reactor.ts";
import type { Peeked } from "../../util/http-host.ts";

const { EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLRDHUP, MSG_DONTWAIT, MSG_PEEK } = constants;
/** Nothing more will come. */
const ENDED = EPOLLRDHUP | EPOLLHUP | EPOLLERR;

export type PeekLimits = { readonly maxBytes: number; readonly maxMs: number; readonly maxConnections: number };
export const PEEK_LIMITS: PeekLimits = { maxBytes: 16_384, maxMs: 5000, maxConnections: 256 };

export type PeekOptions = {
  readonly reactor: Reactor;
  /** What the bytes mean. */
  readonly look: (bytes: Uint8Array) => Peeked;
  readonly limits: PeekLimits;
  /** Takes the connection. */
  readonly onHost: (connection: OwnedFd, host: string) => void;
  /** The connection is closed; `why` is for people. */
  readonly onDropped: (why: string) => void;
};

type Visit = {
  /** @param events  that have come, EPOLL* */
  look(events: number): void;
  drop(why: string): void;
  abandon(): void;
};

export class Peeking implements Disposable {
  readonly #options: PeekOptions;
  readonly #buffer: Uint8Array;
  /** The oldest first. */
  readonly #open: Set<Visit> = new Set();

  constructor(options: PeekOptions) {
    this.#options = options;
    this.#buffer = new Uint8Array(options.limits.maxBytes);
  }

  /** Takes the connection. */
  add(connection: OwnedFd): void {
    const { reactor, limits, onHost, onDropped } = this.#options;
    if (this.#open.size >= limits.maxConnections) this.#makeRoom();
    const stop = (): void => {
      this.#open.delete(visit);
      registration.remove();
      timer.cancel();
    };
    const abandon = (): void => {
      stop();
      connection.close();
    };
    const drop = (why: string): void => {
      abandon();
      onDropped(why);
    };
    const look = (events: number): void => {
      const bytes = this.#peek(connection);
      const found = this.#options.look(bytes);
      if (found.kind === "host") {
        stop();
        onHost(connection, found.host);
      } else if (found.kind === "none") drop("its beginning names no host");
      else if (bytes.length >= limits.maxBytes) drop(`it named no host in ${limits.maxBytes} bytes`);
      else if ((events & ENDED) !== 0) drop("it ended before it named a host");
    };
    const registration = reactor.add(connection, EPOLLIN | EPOLLRDHUP | EPOLLET, look);
    const timer = reactor.setTimer(limits.maxMs, () => drop(`it named no host in ${limits.maxMs} ms`));
    const visit: Visit = { look, drop, abandon };
    this.#open.add(visit);
  }

  #makeRoom(): void {
    const [oldest] = this.#open;
    oldest?.look(0); // it may have named its host just now
    if (oldest !== undefined && this.#open.has(oldest)) oldest.drop("it named no host, and others came");
  }

  /** All that has come. */
  #peek(connection: OwnedFd): Uint8Array {
    try {
      return this.#buffer.subarray(0, recv(connection, this.#buffer, MSG_PEEK | MSG_DONTWAIT) ?? 0);
    } catch (error) {
      if (error instanceof SyscallError) return new Uint8Array(0); // reset
      throw error;
    }
  }

  [Symbol.dispose](): void {
    for (const { abandon } of [...this.#open]) abandon();
  }
}

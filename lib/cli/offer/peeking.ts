/**
 * Connections whose first bytes are looked at and left where they are (MSG_PEEK). What one may cost is bounded: bytes,
 * time, and how many of them there are.
 *
 * Looking takes nothing away, so the descriptor stays readable: SO_RCVLOWAT asks to be woken only when there is more
 * than was seen. A peer that has ended its side is readable for good; when nothing came on top, that is the end.
 */
import { constants, type OwnedFd, recv, SyscallError, setsockopt } from "../../../ffi/mod.ts";
import type { Reactor } from "../../transport/reactor.ts";
import type { Peeked } from "../../util/http-host.ts";

const { EPOLLIN, MSG_DONTWAIT, MSG_PEEK, SO_RCVLOWAT, SOL_SOCKET } = constants;

export type PeekLimits = { readonly maxBytes: number; readonly maxMs: number };
export const PEEK_LIMITS: PeekLimits = { maxBytes: 16_384, maxMs: 5000 };

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

export class Peeking implements Disposable {
  readonly #options: PeekOptions;
  readonly #buffer: Uint8Array;
  readonly #open: Set<() => void> = new Set();

  constructor(options: PeekOptions) {
    this.#options = options;
    this.#buffer = new Uint8Array(options.limits.maxBytes);
  }

  /** How many are being looked at. */
  get size(): number {
    return this.#open.size;
  }

  /** Takes the connection. */
  add(connection: OwnedFd): void {
    const { reactor, limits, onHost, onDropped } = this.#options;
    let seen = 0;
    const stop = (): void => {
      this.#open.delete(abandon);
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
    const look = (): void => {
      const bytes = this.#peek(connection);
      if (bytes === null) return;
      const found = this.#options.look(bytes);
      if (found.kind === "host") {
        stop();
        setsockopt(connection, SOL_SOCKET, SO_RCVLOWAT, 1); // as the taker expects it
        onHost(connection, found.host);
      } else if (found.kind === "none") drop("its beginning names no host");
      else if (bytes.length <= seen) drop("it ended before it named a host");
      else if (bytes.length >= limits.maxBytes) drop(`it named no host in ${limits.maxBytes} bytes`);
      else {
        seen = bytes.length;
        setsockopt(connection, SOL_SOCKET, SO_RCVLOWAT, seen + 1);
      }
    };
    const registration = reactor.add(connection, EPOLLIN, look);
    const timer = reactor.setTimer(limits.maxMs, () => drop(`it named no host in ${limits.maxMs} ms`));
    this.#open.add(abandon);
  }

  /** @returns null when there is nothing, an empty array at the end */
  #peek(connection: OwnedFd): Uint8Array | null {
    try {
      const count = recv(connection, this.#buffer, MSG_PEEK | MSG_DONTWAIT);
      return count === null ? null : this.#buffer.subarray(0, count);
    } catch (error) {
      if (error instanceof SyscallError) return new Uint8Array(0); // reset
      throw error;
    }
  }

  [Symbol.dispose](): void {
    for (const abandon of [...this.#open]) abandon();
  }
}

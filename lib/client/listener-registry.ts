/**
 * The broker as a supervisor of wrapped programs needs it (the Registry of lib/wrap, by shape). A broker that goes away
 * must not hurt the program: what is asked of it then has no answer, and connections go over TCP.
 */
import { type BorrowedFd, SyscallError } from "../../ffi/mod.ts";
import { FailureError, ProtocolError } from "../errors.ts";
import { SHMLINK_MANAGER_V1_LISTENER_FLAGS as FLAGS } from "../protocol/shmlink-v1.gen.ts";
import type { BrokerQuery } from "./broker-query.ts";
import type { Listener } from "./listener.ts";

export class ListenerRegistry {
  readonly #link: BrokerQuery;

  constructor(link: BrokerQuery) {
    this.#link = link;
  }

  get fd(): BorrowedFd | undefined {
    return this.#link.ended ? undefined : this.#link.fd;
  }

  /** @throws FailureError name-in-use, denied, quota, gone */
  register(listener: {
    readonly address: string;
    readonly port: number;
    readonly path: string;
    readonly v6only: boolean;
    readonly noTcp: boolean;
    readonly pid: number;
    readonly counters: BorrowedFd;
  }): Listener {
    const { address, port, path, pid, counters } = listener;
    const flags = (listener.v6only ? FLAGS.v6only : 0) | (listener.noTcp ? FLAGS.no_tcp : 0);
    return this.#link.registerListener({ address, port, path, flags, pid, counters });
  }

  /** Undefined when nobody registered listens there, or when the broker cannot be asked any more. */
  resolve(address: string, port: number): { readonly path: string; readonly id: number } | undefined {
    return this.#unlessGone(() => this.#link.resolve(address, port));
  }

  reportFallback(address: string, port: number, reason: string): void {
    this.#unlessGone(() => this.#link.reportFallback(address, port, reason));
  }

  /** Takes what the broker sent. @returns "ended" once it has gone: do not watch `fd` any longer */
  dispatch(): "open" | "ended" {
    return this.#unlessGone(() => this.#link.dispatch()) ?? "ended";
  }

  #unlessGone<T>(ask: () => T): T | undefined {
    if (this.#link.ended) return undefined;
    try {
      return ask();
    } catch (error) {
      const expected = error instanceof ProtocolError || error instanceof FailureError || error instanceof SyscallError;
      if (!expected) throw error;
      this.#link.close(); // it broke the protocol, is silent, or is gone
      return undefined;
    }
  }
}

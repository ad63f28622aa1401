/** What a supervisor needs from the switchboard. The client implements it over the broker, a test in memory. */
import type { BorrowedFd } from "../../ffi/mod.ts";
import type { Reactor } from "../transport/reactor.ts";

export type Registration = {
  /** As in listings; 0 while the switchboard is away. */
  readonly id: number;
  /** Withdraws the listener; safe to call twice. */
  close(): void;
};

export type ListenerRequest = {
  /** As formatHost() writes it; an IPv4-mapped address as the IPv4 address it stands for. */
  readonly address: string;
  readonly port: number;
  /** Of the Unix socket, absolute. */
  readonly path: string;
  readonly v6only: boolean;
  readonly noTcp: boolean;
  /** Who called listen(2). */
  readonly pid: number;
  /** Lent for the call: a sealed memfd, see counters.ts. */
  readonly counters: BorrowedFd;
};

export type Resolution = { readonly path: string; readonly id: number };

export type Registry = {
  /** @throws FailureError name-in-use, denied, quota, no-broker … */
  register(listener: ListenerRequest): Registration;
  /** Who listens there, undefined when nobody registered does or there is nobody to be asked; "silent" when who is asked
   *  does not answer now. */
  resolve(address: string, port: number): Resolution | "silent" | undefined;
  /** A connection to a registered listener went over TCP after all. Never throws. */
  reportFallback(address: string, port: number, reason: string): void;
  /** Called once: from here on it looks after its connection in that reactor, and never waits there. */
  attach?(reactor: Reactor): void;
};

/** What handlers work with, handed to each call. */
import type { BorrowedFd, Notification } from "../../ffi/mod.ts";
import type { Logger } from "../log.ts";
import type { Reactor } from "../transport/reactor.ts";
import type { Answer } from "./answer.ts";
import type { Counters } from "./counters.ts";
import type { EndWatch } from "./end-watch.ts";
import type { GivenSockets } from "./given-sockets.ts";
import type { HoldingsFinder } from "./holdings.ts";
import type { Journal } from "./journal.ts";
import type { LettingGo } from "./letting-go.ts";
import type { WrappedListener } from "./listener.ts";
import type { Listeners } from "./listeners.ts";
import type { Domain } from "./names.ts";
import type { Template } from "./options.ts";
import type { Registry } from "./registry.ts";
import type { ReservedPorts } from "./reserved-ports.ts";
import type { Resolver } from "./resolver.ts";
import type { Rule } from "./rules/types.ts";
import type { Shortcut } from "./shortcut/shortcut.ts";
import type { SocketTable } from "./socket-table.ts";
import type { Tracee } from "./tracee.ts";

export type Context = {
  readonly notify: BorrowedFd;
  readonly registry: Registry;
  readonly resolver: Resolver;
  readonly table: SocketTable<WrappedListener>;
  readonly listeners: Listeners;
  readonly ends: EndWatch;
  readonly reservedPorts: ReservedPorts;
  readonly reactor: Reactor;
  readonly logger: Logger;
  readonly exposeTcp: boolean;
  readonly rules: readonly Rule[];
  readonly given: GivenSockets;
  readonly journal: Journal;
  readonly holdings: HoldingsFinder;
  readonly lettingGo: LettingGo;
  readonly shortcut: Shortcut;
  /** A pristine TCP socket of that domain. */
  template(domain: Domain): Template;
  /** Answers a call by itself. @returns false when nobody waits for it any more */
  answer(call: Call, answer: Answer): boolean;
};

export type Call = {
  readonly id: bigint;
  readonly args: Notification["args"];
  readonly tracee: Tracee;
  /** Set by a handler: whose numbers the call is to be counted in. */
  counters?: Counters;
};

export type Handler = (context: Context, call: Call) => Answer;

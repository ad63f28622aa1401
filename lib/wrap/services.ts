/** What the handlers of one supervisor share: caches of what the kernel says of its tree, and who answers for what. */
import { type BorrowedFd, getFileLimit } from "../../ffi/mod.ts";
import type { Logger } from "../log.ts";
import type { Reactor } from "../transport/reactor.ts";
import type { Answer } from "./answer.ts";
import type { Call, Context } from "./context.ts";
import { EndWatch } from "./end-watch.ts";
import { Fdinfo } from "./fdinfo.ts";
import type { GivenSockets } from "./given-sockets.ts";
import { Accepting } from "./handlers/accept.ts";
import { HoldingsFinder } from "./holdings.ts";
import { noteInherited } from "./inherited.ts";
import type { Journal } from "./journal.ts";
import { LettingGo } from "./letting-go.ts";
import type { WrappedListener } from "./listener.ts";
import { Listeners } from "./listeners.ts";
import type { Domain } from "./names.ts";
import { Template } from "./options.ts";
import type { Registry } from "./registry.ts";
import { ReservedPorts } from "./reserved-ports.ts";
import { Resolver } from "./resolver.ts";
import type { Rule } from "./rules/types.ts";
import { Shortcut } from "./shortcut/shortcut.ts";
import { SocketTable } from "./socket-table.ts";
import type { Machine } from "./syscalls.ts";
import { PidfdCache } from "./tracee.ts";

export type ServicesOptions = {
  /** The seccomp listener; lent for the supervisor's life. */
  readonly notify: BorrowedFd;
  readonly machine: Machine;
  readonly registry: Registry;
  /** Another connection to the registry, under that name. */
  readonly namedRegistry: (name: string) => Registry;
  readonly rules: readonly Rule[];
  readonly given: GivenSockets;
  readonly journal: Journal;
  readonly reactor: Reactor;
  readonly logger: Logger;
  readonly directory: string;
  readonly exposeTcp: boolean;
  /** Whether programs may have io_uring, which sets options unseen. */
  readonly hasRings: boolean;
  /** Descriptors that the program inherits, and we have too. */
  readonly inherited: readonly number[];
};

export class Services implements Disposable {
  readonly context: Context;
  readonly accepting: Accepting = new Accepting();
  /** What each cache of descriptors may hold. */
  readonly #share: number = shareOfDescriptors();
  readonly pidfds: PidfdCache = new PidfdCache(this.#share);
  readonly fdinfo: Fdinfo = new Fdinfo(this.#share);
  readonly #lettingGo: LettingGo = new LettingGo();
  readonly #templates: Map<Domain, Template> = new Map();

  /** @param answer  false when nobody waits for it any more */
  constructor(options: ServicesOptions, answer: (call: Call, what: Answer) => boolean) {
    const { notify, registry, reactor, logger, exposeTcp, rules, given, journal } = options;
    const table = new SocketTable<WrappedListener>();
    noteInherited(table.touched, options.inherited);
    const holdings = new HoldingsFinder();
    const resolver = new Resolver(registry);
    const known = { table, holdings, resolver };
    const ends = new EndWatch(reactor);
    const reservedPorts = new ReservedPorts(ends, mostReservedPorts());
    const listeners = this.#makeListeners(options, table, ends);
    const shortcut = this.#makeShortcut(options, known);
    const lettingGo = this.#lettingGo;
    const template = (domain: Domain): Template => this.#template(domain);
    const lent = { notify, registry, reactor, logger, exposeTcp, rules, given, journal };
    this.context = { ...lent, ...known, ends, reservedPorts, listeners, shortcut, lettingGo, template, answer };
  }

  #makeListeners(options: ServicesOptions, table: SocketTable<WrappedListener>, ends: EndWatch): Listeners {
    const { registry, namedRegistry, reactor, logger, directory } = options;
    return new Listeners({
      reactor,
      registry: (name) => (name === undefined ? registry : namedRegistry(name)),
      table,
      logger,
      directory,
      ends,
      onReady: (listener) => this.accepting.resume(this.context, listener),
      onClosed: (listener) => {
        this.context.shortcut.forgetListener(listener);
        this.accepting.abandon(this.context, listener);
      },
    });
  }

  #makeShortcut(
    { notify, journal, reactor, hasRings }: ServicesOptions,
    { table, holdings, resolver }: Pick<Context, "table" | "holdings" | "resolver">,
  ): Shortcut {
    return new Shortcut({
      notify,
      reactor,
      lettingGo: this.#lettingGo,
      holdings,
      resolver,
      pidfds: this.pidfds,
      journal,
      template: () => this.#template(4),
      touched: table.touched,
      hasRings,
      mostFiles: this.#share,
    });
  }

  #template(domain: Domain): Template {
    const known = this.#templates.get(domain);
    if (known !== undefined) return known;
    const made = new Template(domain);
    this.#templates.set(domain, made);
    return made;
  }

  [Symbol.dispose](): void {
    this.context.listeners[Symbol.dispose]();
    this.context.reservedPorts[Symbol.dispose]();
    this.context.ends[Symbol.dispose]();
    this.context.shortcut[Symbol.dispose]();
    this.pidfds[Symbol.dispose]();
    this.fdinfo[Symbol.dispose]();
    this.#lettingGo[Symbol.dispose]();
    for (const template of this.#templates.values()) template[Symbol.dispose]();
  }
}

/** There are three caches, and most of our descriptors have to remain for sockets. */
function shareOfDescriptors(): number {
  return Math.min(Math.max(Number(getFileLimit().soft) >> 5, 2), 64);
}

/** Clients that bind a port of their own before they connect are few, and each of them costs a descriptor. */
function mostReservedPorts(): number {
  return Math.min(Number(getFileLimit().soft) >> 2, 16_384);
}

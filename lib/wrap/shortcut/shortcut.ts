/**
 * The common case of connect(), accept() and the calls that ask for names in machine code (ffi/trap/path.ts), and what it may
 * take for granted: that a listener with that SO_COOKIE is what it was, for as long as it is there. connect() in
 * TypeScript comes first: it learns where a listener is and which epoll sets a thread has. For as long as it would trust
 * the former itself, later connections to that listener need nothing else looked up than the epoll sets, for which machine
 * code looks again itself every 20 ms or so. When the first listener is not trusted any more, those that were connected to
 * are looked up again; the rest is forgotten, and the next connect() there comes the long way again.
 */
import {
  type BorrowedFd,
  type Notification,
  type OwnedFd,
  type Served,
  type TrapCountVisitor,
  TrapPath,
} from "../../../ffi/mod.ts";
import type { Reactor } from "../../transport/reactor.ts";
import type { HoldingsFinder } from "../holdings.ts";
import { type Endpoint, formatHost, LOOPBACK_V4 } from "../host.ts";
import type { DecisionCount, Journal } from "../journal.ts";
import type { LettingGo } from "../letting-go.ts";
import type { WrappedListener } from "../listener.ts";
import type { Template } from "../options.ts";
import type { Resolver } from "../resolver.ts";
import type { Cookie } from "../socket-table.ts";
import type { TouchedSockets } from "../touched.ts";
import type { PidfdCache } from "../tracee.ts";
import { KnownListeners } from "./listeners.ts";
import { openTrapPath } from "./open.ts";
import { Stock } from "./stock.ts";
import { type Destination, KnownTargets } from "./targets.ts";
import { KnownThreads } from "./threads.ts";

export type ShortcutOptions = {
  readonly notify: BorrowedFd;
  readonly lettingGo: LettingGo;
  readonly holdings: HoldingsFinder;
  readonly resolver: Resolver;
  readonly pidfds: PidfdCache;
  readonly journal: Journal;
  /** Who wants our thread next, and when. */
  readonly reactor: Pick<Reactor, "others" | "dueMs" | "setTimer">;
  /** Of a TCP socket of IPv4. */
  readonly template: () => Template;
  readonly touched: TouchedSockets;
  /** Whether programs may have io_uring, which sets options unseen. */
  readonly hasRings: boolean;
  /** How many files of /proc it may keep open. */
  readonly mostFiles: number;
};

export type ShortcutResult =
  | { readonly kind: "served" }
  | { readonly kind: "gone" }
  | { readonly kind: "left"; readonly call: Notification }
  /** A connection was accepted from that listener; it is with it now. */
  | { readonly kind: "taken"; readonly call: Notification; readonly listener: WrappedListener }
  | { readonly kind: "still held"; readonly call: Notification; readonly fd: OwnedFd; readonly from: number }
  | { readonly kind: "unanswered"; readonly fd: OwnedFd };

/** A call that came when what is taken for granted had to be looked at again. */
type LateResult = { readonly kind: "late"; readonly call: Notification };

/** What machine code knows. */
type Opened = {
  readonly path: TrapPath;
  readonly threads: KnownThreads;
  readonly targets: KnownTargets;
  readonly listeners: KnownListeners;
  readonly stock: Stock;
};

export class Shortcut implements Disposable {
  readonly #options: ShortcutOptions;
  #opened: Opened | undefined;
  readonly #counting: TrapCountVisitor;
  /** When the last call came. */
  #startMs = 0;
  /** Of targets: epoll sets are looked at again by machine code. */
  #untilMs = Number.POSITIVE_INFINITY;

  constructor(options: ShortcutOptions) {
    this.#options = options;
    this.#counting = {
      calls: (name, times, totalUs, longestUs) => options.journal.traps(name, times, totalUs, longestUs),
      reached: (index, times) => {
        this.#opened?.targets.count(index, times);
        this.#opened?.stock.note(times, performance.now());
      },
    };
    options.holdings.onExpect = () => this.#forget();
    options.pidfds.onDrop = (thread) => {
      this.#opened?.threads.release(thread);
      options.holdings.forget(thread);
    };
  }

  /** Takes the next call, and others after it. @returns undefined where nothing is known that would help: nothing is
   *  taken then */
  serve(nowMs: number): ShortcutResult | undefined {
    const opened = this.#opened;
    if (opened === undefined) return undefined;
    const { epoll } = this.#options.lettingGo;
    if (epoll === undefined) return undefined;
    let result: ShortcutResult | LateResult | undefined;
    for (let startMs = nowMs; result === undefined || result.kind === "late"; startMs = performance.now()) {
      if (startMs > this.#untilMs) this.#renew(opened);
      result = this.#serve(opened, epoll, startMs);
    }
    return result;
  }

  #serve(opened: Opened, epoll: BorrowedFd, startMs: number): ShortcutResult | LateResult {
    // Whoever sleeps is woken when something is due; who is awake has to look.
    const served = opened.path.serve(epoll, Math.min(this.#untilMs, this.#options.reactor.dueMs) - startMs);
    const nowMs = performance.now();
    this.#options.touched.takeNoted();
    this.#startMs = nowMs - opened.path.takeCounts(nowMs - startMs, this.#counting);
    return this.#note(opened, served);
  }

  /** When the last call came, which may not have been the first. */
  get startMs(): number {
    return this.#startMs;
  }

  #note({ targets, listeners }: Opened, served: Served): ShortcutResult | LateResult {
    switch (served.kind) {
      case "taken": {
        const { call, fd, address } = served;
        const listener = listeners.at(served.listener);
        listener.adopt({ fd, address });
        return { kind: "taken", call, listener };
      }
      case "still held":
      case "unanswered":
        targets.count(served.target, 1);
        return served;
      default:
        return served;
    }
  }

  /** A thread whose call has been answered. */
  meet(thread: number): void {
    const pidfd = this.#options.pidfds.known(thread);
    if (pidfd !== undefined) this.#opened?.threads.meet(thread, pidfd);
  }

  /** A connect() of that thread has been handed off, over that path. */
  learn(thread: number, target: Endpoint, where: string, decision: DecisionCount | undefined): void {
    const { holdings, resolver } = this.#options;
    const { host, port } = target;
    // Other destinations have their source looked up in the routes each time.
    if (formatHost(host) !== formatHost(LOOPBACK_V4)) return;
    const survey = holdings.known(thread);
    const resolvedUntilMs = resolver.untilMs(formatHost(host), port, where);
    const opened = survey && resolvedUntilMs && this.#open();
    if (!survey || !resolvedUntilMs || !opened) return;
    this.meet(thread);
    if (!opened.threads.setEpolls(thread, survey.epolls)) return;
    opened.targets.learn({ target, where }, decision);
    this.#untilMs = Math.min(this.#untilMs, resolvedUntilMs);
  }

  /** A connection to that listener, which has that Unix socket, has been accepted. */
  learnListener(listener: WrappedListener, cookie: Cookie): void {
    const hasEnded = listener.counters.fd.closed;
    if (cookie !== listener.tcpCookie && !hasEnded) this.#open()?.listeners.learn(listener, cookie);
  }

  forgetListener(listener: WrappedListener): void {
    this.#opened?.listeners.forget(listener);
  }

  #open(): Opened | undefined {
    const { notify, template, journal, reactor, mostFiles, hasRings, touched } = this.#options;
    if (this.#opened !== undefined) return this.#opened;
    if (!TrapPath.isAvailable || journal.isTracing) return undefined;
    const path = openTrapPath({ notify, mostFiles, others: reactor.others, template: template(), hasRings });
    touched.mirror(path.touched);
    this.#opened = {
      path,
      threads: new KnownThreads(path.threads),
      targets: new KnownTargets(path.targets),
      listeners: new KnownListeners(path.listeners),
      stock: new Stock({
        makeAhead: (isWished) => path.makeAhead(isWished),
        setTimer: (delayMs, callback) => reactor.setTimer(delayMs, callback),
      }),
    };
    return this.#opened;
  }

  /** Where a listener was trusted to be for long enough, and connections went there, it is looked up again: a connect() that
   *  comes the long way costs more than that. The rest is forgotten. */
  #renew({ targets }: Opened): void {
    const reached = targets.takeReached();
    this.#forgetTargets(targets);
    for (const index of reached) targets.renew(index, (destination) => this.#isThere(destination));
  }

  /** Another one may be there by now, or nobody. */
  #isThere({ target, where }: Destination): boolean {
    const { resolver } = this.#options;
    const host = formatHost(target.host);
    resolver.resolve(host, target.port);
    const untilMs = resolver.untilMs(host, target.port, where);
    this.#untilMs = Math.min(this.#untilMs, untilMs ?? Number.POSITIVE_INFINITY);
    return untilMs !== undefined;
  }

  /** What connect() takes for granted. */
  #forget(): void {
    if (this.#opened === undefined) return;
    this.#opened.threads.forgetEpolls();
    this.#forgetTargets(this.#opened.targets);
  }

  #forgetTargets(targets: KnownTargets): void {
    this.#untilMs = Number.POSITIVE_INFINITY;
    targets.forget();
  }

  [Symbol.dispose](): void {
    this.#opened?.stock[Symbol.dispose]();
    this.#opened?.path[Symbol.dispose]();
    this.#opened = undefined;
  }
}

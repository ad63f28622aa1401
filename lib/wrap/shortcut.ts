/**
 * The common case of connect(), accept() and the calls that ask for names in machine code (ffi/trap-path.ts), and what it may
 * take for granted: that a listener with that SO_COOKIE is what it was, for as long as it is there. connect() in
 * TypeScript comes first: it learns where a listener is and which epoll sets a thread has, and for as long as it would
 * trust that itself, later connections to that listener need nothing else looked up. All of that is forgotten when the first
 * thing of it is not trusted any more, and the next connect() comes the long way again.
 */
import {
  type BorrowedFd,
  constants,
  type Notification,
  type OwnedFd,
  type Served,
  type TrapCountVisitor,
  TrapPath,
} from "../../ffi/mod.ts";
import type { Reactor } from "../transport/reactor.ts";
import type { HoldingsFinder } from "./holdings.ts";
import { type Endpoint, formatHost, LOOPBACK_V4 } from "./host.ts";
import type { DecisionCount, Journal } from "./journal.ts";
import type { LettingGo } from "./letting-go.ts";
import type { WrappedListener } from "./listener.ts";
import { connectionNameParts } from "./names.ts";
import { sendBufferOption, type Template } from "./options.ts";
import type { Resolver } from "./resolver.ts";
import { everySecondPort, sharePortCursor } from "./route.ts";
import { socketAddress } from "./socket.ts";
import type { Cookie } from "./socket-table.ts";
import type { PidfdCache } from "./tracee.ts";

export type ShortcutOptions = {
  readonly notify: BorrowedFd;
  readonly lettingGo: LettingGo;
  readonly holdings: HoldingsFinder;
  readonly resolver: Resolver;
  readonly pidfds: PidfdCache;
  readonly journal: Journal;
  /** Who wants our thread next, and when. */
  readonly reactor: Pick<Reactor, "others" | "dueMs">;
  /** Of a TCP socket of IPv4. */
  readonly template: () => Template;
  /** Sockets on which an option was set that only TCP has. */
  readonly touched: () => { readonly version: number; readonly cookies: ReadonlySet<Cookie> };
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

/** Where connections go, and the path of the listener there. */
type Destination = { readonly target: Endpoint; readonly where: string };

const PROTOCOL = { level: constants.SOL_SOCKET, name: constants.SO_PROTOCOL, value: int(constants.IPPROTO_TCP) };
const NETWORK = { level: constants.SOL_SOCKET, name: constants.SO_NETNS_COOKIE };

export class Shortcut implements Disposable {
  readonly #options: ShortcutOptions;
  #path: TrapPath | undefined;
  readonly #decisions: (DecisionCount | undefined)[] = [];
  readonly #keys: string[] = [];
  readonly #targets: (Destination | undefined)[] = [];
  /** Which targets were connected to since they were looked at. */
  readonly #reached: Set<number> = new Set();
  readonly #listeners: (WrappedListener | undefined)[] = [];
  readonly #counting: TrapCountVisitor;
  /** When the last call came. */
  #startMs = 0;
  /** Which thread has which place, and whose files are open there. */
  readonly #threads: number[] = [];
  #nextTarget = 0;
  #nextThread = 0;
  #nextListener = 0;
  /** Of targets and epoll sets. */
  #untilMs = Number.POSITIVE_INFINITY;
  #touchedVersion = 0;

  constructor(options: ShortcutOptions) {
    this.#options = options;
    this.#counting = {
      calls: (name, times, totalUs, longestUs) => options.journal.traps(name, times, totalUs, longestUs),
      reached: (index, times) => this.#count(index, times),
    };
    options.holdings.onExpect = () => this.#forget();
    options.pidfds.onDrop = (thread) => {
      this.#release(thread);
      options.holdings.forget(thread);
    };
  }

  /** Takes the next call, and others after it. @returns undefined where nothing is known that would help: nothing is
   *  taken then */
  serve(nowMs: number): ShortcutResult | undefined {
    const path = this.#path;
    if (path === undefined) return undefined;
    const touched = this.#options.touched();
    if (this.#touchedVersion !== touched.version) {
      this.#touchedVersion = touched.version;
      if (!path.setTouched(touched.cookies)) {
        this.#touchedVersion = -1; // too many: connect() is not for us
        this.#forget();
      }
    }
    if (nowMs > this.#untilMs) this.#renew(path);
    const { epoll } = this.#options.lettingGo;
    return epoll === undefined ? undefined : this.#serve(path, epoll, nowMs);
  }

  #serve(path: TrapPath, epoll: BorrowedFd, startMs: number): ShortcutResult {
    // Where something is due, nobody may sleep for longer than that.
    const isFree = this.#options.reactor.dueMs === Number.POSITIVE_INFINITY;
    const served = path.serve(epoll, isFree ? this.#untilMs - startMs : 0);
    const nowMs = performance.now();
    this.#startMs = nowMs - path.takeCounts(nowMs - startMs, this.#counting);
    return this.#note(served);
  }

  /** When the last call came, which may not have been the first. */
  get startMs(): number {
    return this.#startMs;
  }

  #note(served: Served): ShortcutResult {
    switch (served.kind) {
      case "taken":
        return this.#hand(served);
      case "still held":
      case "unanswered":
        this.#count(served.target, 1);
        return served;
      default:
        return served;
    }
  }

  /** Connections to that target have been made. */
  #count(target: number, times: number): void {
    this.#reached.add(target);
    const decision = this.#decisions[target];
    if (decision !== undefined) decision.count += times;
  }

  #hand({ call, listener: index, fd, address }: Extract<Served, { kind: "taken" }>): ShortcutResult {
    const listener = this.#listeners[index];
    if (listener === undefined) throw new Error(`Connections of listener ${index} are taken, and nobody knows it`);
    listener.adopt({ fd, address });
    return { kind: "taken", call, listener };
  }

  /** A thread whose call has been answered. */
  meet(thread: number): void {
    const pidfd = this.#options.pidfds.known(thread);
    if (this.#path === undefined || pidfd === undefined || this.#threads.includes(thread)) return;
    const index = this.#nextThread;
    this.#nextThread = (index + 1) % TrapPath.MAX_THREADS;
    this.#path.releaseThread(index);
    this.#path.setThread(index, thread, pidfd);
    this.#threads[index] = thread;
  }

  /** A connect() of that thread has been handed off, over that path. */
  learn(thread: number, target: Endpoint, path: string, decision: DecisionCount | undefined): void {
    const { holdings, resolver } = this.#options;
    const { host, port } = target;
    // Other destinations have their source looked up in the routes each time.
    if (formatHost(host) !== formatHost(LOOPBACK_V4) || this.#touchedVersion < 0) return;
    const survey = holdings.known(thread);
    const resolvedUntilMs = resolver.untilMs(formatHost(host), port, path);
    if (survey === undefined || resolvedUntilMs === undefined || !this.#open()) return;
    this.meet(thread);
    const index = this.#threads.indexOf(thread);
    if (index < 0 || this.#path?.setEpolls(index, survey.epolls) !== true) return;
    this.#learnTarget(this.#path, target, path, decision);
    this.#untilMs = Math.min(this.#untilMs, survey.untilMs, resolvedUntilMs);
  }

  /** A connection to that listener, which has that Unix socket, has been accepted. */
  learnListener(listener: WrappedListener, cookie: Cookie): void {
    if (this.#listeners.includes(listener) || cookie === listener.tcpCookie || !this.#open()) return;
    if (listener.counters.fd.closed) return; // it has ended
    const index = this.#nextListener;
    this.#nextListener = (index + 1) % TrapPath.MAX_LISTENERS;
    const { name, address, options, counters } = listener;
    const client = socketAddress(name.domain, { host: LOOPBACK_V4, port: 0 });
    const inherited = options.map(({ option: [level, number], value }) => ({ level, name: number, value }));
    this.#listeners[index] = listener;
    this.#path?.setListener(index, { cookie, address, client, options: inherited, counters: counters.fd });
  }

  forgetListener(listener: WrappedListener): void {
    const index = this.#listeners.indexOf(listener);
    if (index < 0) return;
    this.#listeners[index] = undefined;
    this.#path?.setListener(index, undefined);
  }

  /** To be called when a socket has been made ready: how it gets its room for sending is known only then. */
  #open(): boolean {
    const { notify, template, journal, reactor, mostFiles } = this.#options;
    if (this.#path !== undefined) return true;
    if (!TrapPath.isAvailable || journal.isTracing) return false;
    const { commonDefaults, network } = template();
    const checks = commonDefaults.map(({ option: [level, name], value }) => ({ level, name, value }));
    if (network !== undefined) checks.push({ ...NETWORK, value: network });
    const { head, tail } = connectionNameParts({ domain: 4, client: LOOPBACK_V4, server: NO_PORT });
    this.#path = new TrapPath({
      notify,
      mostFiles,
      others: reactor.others,
      checks: [PROTOCOL, ...checks],
      sendBuffer: sendBufferOption(),
      ports: everySecondPort(4),
      ends: [head, tail.slice(0, tail.lastIndexOf("-") + 1)],
    });
    sharePortCursor(this.#path);
    return true;
  }

  #learnTarget(path: TrapPath, target: Endpoint, where: string, decision: DecisionCount | undefined): void {
    const key = `${target.port}`;
    let index = this.#keys.indexOf(key);
    if (index < 0) {
      index = this.#nextTarget;
      this.#nextTarget = (index + 1) % TrapPath.MAX_TARGETS;
    }
    this.#keys[index] = key;
    this.#decisions[index] = decision;
    this.#aim(path, index, { target, where });
  }

  #aim(path: TrapPath, index: number, { target, where }: Destination): void {
    this.#targets[index] = { target, where };
    const { head, tail } = connectionNameParts({ domain: 4, client: target.host, server: target });
    path.setTarget(index, { ...target, path: where, head, tail });
  }

  /** What was trusted for long enough, and was used, is looked at again: a connect() that comes the long way costs more
   *  than that. The rest is forgotten. */
  #renew(path: TrapPath): void {
    const targets = [...this.#reached];
    const threads = this.#threads.flatMap((thread, index) => (path.takeUsed(index) ? [{ thread, index }] : []));
    this.#reached.clear();
    this.#forget();
    for (const { thread, index } of threads) this.#renewThread(path, thread, index);
    for (const index of targets) this.#renewTarget(path, index);
  }

  #renewThread(path: TrapPath, thread: number, index: number): void {
    const { holdings, template } = this.#options;
    const survey = thread === 0 ? undefined : holdings.renew(thread, template().fd);
    if (survey === undefined || !path.setEpolls(index, survey.epolls)) return;
    this.#untilMs = Math.min(this.#untilMs, survey.untilMs);
  }

  #renewTarget(path: TrapPath, index: number): void {
    const { resolver } = this.#options;
    const destination = this.#targets[index];
    if (destination === undefined) return;
    const host = formatHost(destination.target.host);
    resolver.resolve(host, destination.target.port);
    const untilMs = resolver.untilMs(host, destination.target.port, destination.where);
    if (untilMs === undefined) return; // another one is there by now, or nobody
    this.#aim(path, index, destination);
    this.#untilMs = Math.min(this.#untilMs, untilMs);
  }

  /** What connect() takes for granted. What is open of threads stays open. */
  #forget(): void {
    this.#untilMs = Number.POSITIVE_INFINITY;
    for (let index = 0; index < TrapPath.MAX_THREADS; index++) this.#path?.setEpolls(index, undefined);
    for (let index = 0; index < TrapPath.MAX_TARGETS; index++) this.#path?.setTarget(index, undefined);
  }

  /** Its number may be another thread's from now on. */
  #release(thread: number): void {
    const index = this.#threads.indexOf(thread);
    if (index < 0) return;
    this.#threads[index] = 0;
    this.#path?.releaseThread(index);
  }

  [Symbol.dispose](): void {
    this.#path?.[Symbol.dispose]();
    this.#path = undefined;
  }
}

const NO_PORT: Endpoint = { host: LOOPBACK_V4, port: 0 };

function int(value: number): Uint8Array {
  return new Uint8Array(Int32Array.of(value).buffer);
}

/**
 * The common case of connect() in machine code (ffi/trap-path.ts), and what it may take for granted. connect() in
 * TypeScript comes first: it learns where a listener is and which epoll sets a thread has, and for as long as it would
 * trust that itself, later connections to that listener need nothing else looked up. All is forgotten when the first
 * thing of it is not trusted any more, and the next connect() comes the long way again.
 */
import { type BorrowedFd, constants, type Notification, type OwnedFd, TrapPath } from "../../ffi/mod.ts";
import type { HoldingsFinder } from "./holdings.ts";
import { type Endpoint, formatHost, LOOPBACK_V4 } from "./host.ts";
import type { DecisionCount, Journal } from "./journal.ts";
import type { LettingGo } from "./letting-go.ts";
import { connectionNameParts } from "./names.ts";
import { sendBufferOption, type Template } from "./options.ts";
import type { Resolver } from "./resolver.ts";
import { everySecondPort, sharePortCursor } from "./route.ts";
import type { Cookie } from "./socket-table.ts";
import type { PidfdCache } from "./tracee.ts";

export type ShortcutOptions = {
  readonly notify: BorrowedFd;
  readonly lettingGo: LettingGo;
  readonly holdings: HoldingsFinder;
  readonly resolver: Resolver;
  readonly pidfds: PidfdCache;
  readonly journal: Journal;
  /** Of a TCP socket of IPv4. */
  readonly template: () => Template;
  /** Sockets on which an option was set that only TCP has. */
  readonly touched: () => { readonly version: number; readonly cookies: ReadonlySet<Cookie> };
};

export type ShortcutResult =
  | { readonly kind: "served" }
  | { readonly kind: "gone" }
  | { readonly kind: "left"; readonly call: Notification }
  | { readonly kind: "still held"; readonly call: Notification; readonly fd: OwnedFd; readonly from: number }
  | { readonly kind: "unanswered"; readonly fd: OwnedFd };

const PROTOCOL = { level: constants.SOL_SOCKET, name: constants.SO_PROTOCOL, value: int(constants.IPPROTO_TCP) };

export class Shortcut implements Disposable {
  readonly #options: ShortcutOptions;
  #path: TrapPath | undefined;
  readonly #decisions: (DecisionCount | undefined)[] = [];
  readonly #keys: string[] = [];
  /** Which thread has which place, and whose files are open there. */
  readonly #threads: number[] = [];
  #nextTarget = 0;
  #nextThread = 0;
  #untilMs = Number.POSITIVE_INFINITY;
  #touchedVersion = 0;

  constructor(options: ShortcutOptions) {
    this.#options = options;
    options.holdings.onExpect = () => this.forget();
    options.pidfds.onDrop = (thread) => this.#release(thread);
  }

  /** Takes the next call. @returns undefined where nothing is known that would help: nothing is taken then */
  serve(nowMs: number): ShortcutResult | undefined {
    if (this.#path === undefined || this.#untilMs === Number.POSITIVE_INFINITY) return undefined;
    if (nowMs > this.#untilMs) {
      this.forget();
      return undefined;
    }
    const { lettingGo } = this.#options;
    const touched = this.#options.touched();
    if (this.#touchedVersion !== touched.version) {
      if (!this.#path.setTouched(touched.cookies)) return undefined;
      this.#touchedVersion = touched.version;
    }
    const served = this.#path.serve(lettingGo.epoll);
    if (served.kind !== "served") return served;
    const decision = this.#decisions[served.target];
    if (decision !== undefined) decision.count += 1;
    return served;
  }

  /** A connect() of that thread has been handed off, over that path. */
  learn(thread: number, target: Endpoint, path: string, decision: DecisionCount | undefined): void {
    const { holdings, resolver, journal, pidfds } = this.#options;
    const { host, port } = target;
    // Other destinations have their source looked up in the routes each time.
    if (!TrapPath.isAvailable || journal.isTracing || formatHost(host) !== formatHost(LOOPBACK_V4)) return;
    const survey = holdings.known(thread);
    const resolvedUntilMs = resolver.untilMs(formatHost(host), port, path);
    const pidfd = pidfds.known(thread);
    if (survey === undefined || pidfd === undefined || resolvedUntilMs === undefined) return;
    this.#path ??= this.#open();
    if (!this.#learnThread(this.#path, thread, pidfd, survey.epolls)) return;
    this.#learnTarget(this.#path, target, path, decision);
    this.#untilMs = Math.min(this.#untilMs, survey.untilMs, resolvedUntilMs);
  }

  #open(): TrapPath {
    const { notify, template } = this.#options;
    const checks = template().commonDefaults.map(({ option: [level, name], value }) => ({ level, name, value }));
    const ports = everySecondPort(4);
    const path = new TrapPath({ notify, checks: [PROTOCOL, ...checks], sendBuffer: sendBufferOption(), ports });
    sharePortCursor(path);
    return path;
  }

  #learnThread(path: TrapPath, thread: number, pidfd: BorrowedFd, epolls: readonly number[]): boolean {
    let index = this.#threads.indexOf(thread);
    if (index < 0) {
      index = this.#nextThread;
      this.#nextThread = (index + 1) % TrapPath.MAX_THREADS;
      path.releaseThread(index);
      this.#threads[index] = thread;
    }
    return path.setThread(index, thread, pidfd, epolls);
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
    const { head, tail } = connectionNameParts({ domain: 4, client: target.host, server: target });
    path.setTarget(index, { ...target, path: where, head, tail });
  }

  /** What is open of threads stays open. */
  forget(): void {
    this.#untilMs = Number.POSITIVE_INFINITY;
    for (let index = 0; index < TrapPath.MAX_THREADS; index++) this.#path?.forgetThread(index);
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

function int(value: number): Uint8Array {
  return new Uint8Array(Int32Array.of(value).buffer);
}

/** Wiring: listening socket, reactor, sessions, signals, idle exit, order of shutdown. Blocks until it is told to stop. */
import { constants, type OwnedFd, SignalPipe } from "../../ffi/mod.ts";
import type { ShmlinkConfig } from "../config/schema.ts";
import { ConfigError } from "../errors.ts";
import type { Logger } from "../log.ts";
import { ServerConnection } from "../protocol/connection.ts";
import { Notifier } from "../transport/notify.ts";
import { Reactor } from "../transport/reactor.ts";
import { UnixTransport } from "../transport/unix.ts";
import { howMany } from "../util/how-many.ts";
import { VERSION } from "../version.ts";
import { Admission } from "./admission.ts";
import { Closer } from "./closer.ts";
import { Contexts } from "./contexts.ts";
import type { BrokerCore } from "./core.ts";
import { Deadlines } from "./deadlines.ts";
import { FloodTurns } from "./flood-turns.ts";
import { OwnSockets } from "./own-sockets.ts";
import { Quota } from "./quota.ts";
import { RateLimiter } from "./rate.ts";
import type { Owner } from "./records.ts";
import { Registry } from "./registry.ts";
import { Session } from "./session.ts";
import type { HeldStore } from "./survival/held-store.ts";
import { Keeper } from "./survival/keeper.ts";
import { Life } from "./survival/life.ts";
import { Survival } from "./survival/survival.ts";
import { YoungRings } from "./young-rings.ts";

export type BrokerOptions = {
  /** Listening Unix stream sockets; taken. */
  readonly listeners: readonly OwnedFd[];
  /** What an earlier broker left with the service manager or the holder; taken. */
  readonly stored?: ReadonlyMap<string, OwnedFd>;
  /** Where to leave it when no service manager keeps anything; lent. */
  readonly held?: HeldStore;
  readonly config: ShmlinkConfig;
  /** Reads the configuration again, for SIGHUP. @throws ConfigError */
  readonly reload?: () => ShmlinkConfig;
  readonly logger: Logger;
  /** For sd_notify(3): NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** By which floods are told, in milliseconds; performance.now() unless a test has its own time. */
  readonly now?: () => number;
};

export class Broker implements Disposable {
  readonly #reactor: Reactor = new Reactor();
  readonly #sessions: Set<Session> = new Set();
  readonly #core: BrokerCore;
  readonly #options: BrokerOptions;
  readonly #notifier: Notifier;
  readonly #admission: Admission;
  readonly #contexts: Contexts;
  #idleTimer: { cancel(): void } | undefined;
  #stopped = false;
  /** The signal that ended run(), if one did. */
  stoppedBy: number | undefined;

  constructor(options: BrokerOptions) {
    this.#options = options;
    this.#notifier = new Notifier(options.env);
    const setTimer = (delayMs: number, callback: () => void): void => void this.#reactor.setTimer(delayMs, callback);
    const quota = new Quota(options.config.limits);
    this.#core = {
      config: options.config,
      registry: new Registry(),
      quota,
      closer: new Closer({ quota, setTimer }),
      deadlines: new Deadlines({ core: () => this.#core, setTimer }),
      rate: new RateLimiter(options.config.limits.maxMessagesPerSecond),
      ownSockets: new OwnSockets(),
      survival: this.#makeSurvival(setTimer),
      youngRings: new YoungRings(setTimer),
      floodTurns: new FloodTurns({
        setTimer,
        before: () => this.#settle(),
        ...(options.now === undefined ? {} : { now: options.now }),
      }),
      logger: options.logger,
      version: VERSION,
      uid: process.geteuid?.() ?? 0,
      touched: new Set(),
      startedAtMs: Date.now(),
      startSession: (fd, owner) => this.#start(fd, owner),
      serveContext: (record) => this.#contexts.serve(record),
      sessions: () => this.#sessions,
    };
    this.#admission = new Admission(this.#core, this.#reactor, () => this.#armIdle());
    const wiring = { reactor: this.#reactor, admission: this.#admission, onEnd: () => this.#armIdle() };
    this.#contexts = new Contexts(this.#core, wiring);
    for (const listener of options.listeners) {
      this.#core.ownSockets.addListener(listener);
      this.#admission.watch(listener);
    }
    this.#core.survival.restore(this.#core, options.stored ?? new Map());
  }

  #makeSurvival(setTimer: (delayMs: number, callback: () => void) => void): Survival {
    const { held, logger } = this.#options;
    const keeper = new Keeper({ store: held ?? this.#notifier, logger, setTimer });
    const life = new Life(this.#reactor);
    if (held !== undefined) held.reap = (pid) => life.reap(pid);
    return new Survival(keeper, life);
  }

  get sessionCount(): number {
    return this.#sessions.size;
  }

  /** Whether nothing that a peer made is left. */
  get isEmpty(): boolean {
    return this.#core.registry.isEmpty && this.#core.quota.isEmpty;
  }

  /** Serves until SIGTERM, SIGINT, or the idle time is over. */
  run(): void {
    using signals = new SignalPipe([constants.SIGTERM, constants.SIGINT, constants.SIGHUP]);
    const registration = this.#reactor.add(signals.fd, constants.EPOLLIN, () => {
      for (const signal of signals.take()) this.#handleSignal(signal);
    });
    this.#startWatchdog();
    this.#notifier.ready(`Serving ${this.#options.listeners.length} socket(s)`);
    this.#armIdle();
    while (!this.#stopped) this.turn(-1);
    registration.remove();
    this.#notifier.stopping();
    this.#options.held?.stopping();
  }

  /** Waits for events, at most `timeoutMs` (-1: no limit), handles them and sends the answers. What a peer does wrong
   *  never comes out of here as an exception. */
  turn(timeoutMs: number): void {
    this.#core.floodTurns.begin();
    this.#reactor.runOnce(timeoutMs);
    this.#settle();
  }

  #handleSignal(signal: number): void {
    if (signal === constants.SIGHUP) return this.#reload();
    this.stoppedBy ??= signal;
    this.#stopped = true;
  }

  /** Reads the configuration again. Sessions and channels stay, whatever it says; what is asked from now on is judged by
   *  it. A file that is wrong changes nothing. */
  #reload(): void {
    const { reload, logger } = this.#options;
    if (reload === undefined) return logger.warn("Cannot read the configuration again: there is none to read");
    this.#notifier.reloading();
    try {
      this.#core.config = reload();
      this.#core.quota.limits = this.#core.config.limits;
      this.#core.rate.perSecond = this.#core.config.limits.maxMessagesPerSecond;
      logger.info(`Configuration read again: ${howMany(this.#core.config.rules.length, "rule")}`);
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      logger.error(`Configuration is wrong, the old one stays in force: ${error.message}`);
    }
    this.#notifier.ready(`Serving ${this.#options.listeners.length} socket(s)`);
  }

  #settle(): void {
    for (const session of this.#core.touched) {
      this.#core.touched.delete(session);
      session.settle();
    }
    this.#core.closer.settle();
  }

  #startWatchdog(): void {
    const intervalMs = this.#notifier.watchdogIntervalMs;
    if (intervalMs === undefined) return;
    const beat = (): void => {
      this.#notifier.watchdog();
      this.#reactor.setTimer(intervalMs, beat);
    };
    beat();
  }

  #start(fd: OwnedFd, owner: Owner): Session {
    const core = this.#core;
    const options = {
      get maxQueuedBytes() {
        return core.config.limits.maxQueuedBytes;
      },
      closeFd: core.closer.closingFor(owner),
    };
    const connection = new ServerConnection(new UnixTransport(fd, options));
    const onEnd = (ended: Session): void => {
      this.#sessions.delete(ended);
      this.#core.registry.connections.delete(ended);
      this.#core.quota.release(owner, { sessions: 1 });
      this.#armIdle();
    };
    const session = new Session(this.#core, connection, owner, { reactor: this.#reactor, fd, onEnd });
    this.#sessions.add(session);
    this.#idleTimer?.cancel();
    this.#idleTimer = undefined;
    return session;
  }

  #armIdle(): void {
    const { idleMs } = this.#core.config.broker;
    if (idleMs === 0 || this.#isBusy || this.#idleTimer !== undefined) return;
    this.#idleTimer = this.#reactor.setTimer(idleMs, () => {
      this.#idleTimer = undefined;
      this.#core.survival.sweep(this.#core);
      // What an earlier broker left would be lost with us: an end without a failure empties the manager's store.
      if (this.#core.survival.holdsSomething) this.#armIdle();
      else this.#stopped ||= !this.#isBusy;
    });
  }

  get #isBusy(): boolean {
    return this.#sessions.size > 0 || this.#admission.isWaitedFor || this.#core.registry.contexts.size > 0;
  }

  [Symbol.dispose](): void {
    const { survival, registry, closer } = this.#core;
    survival.freeze();
    for (const session of [...this.#sessions]) session.end();
    this.#admission[Symbol.dispose]();
    for (const { listener, closeFd } of registry.contexts.values()) for (const fd of [listener, closeFd]) fd.close();
    for (const { bundles } of registry.offers.values()) for (const { fds } of bundles) for (const fd of fds) fd.close();
    survival[Symbol.dispose]();
    for (const listener of this.#options.listeners) listener.close();
    closer[Symbol.dispose]();
    this.#reactor[Symbol.dispose]();
  }
}

/** Runs a broker until it is told to stop. @returns the signal that stopped it, undefined after an idle exit */
export function runBroker(options: BrokerOptions): number | undefined {
  using broker = new Broker(options);
  broker.run();
  return broker.stoppedBy;
}

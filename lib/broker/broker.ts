/** Wiring: listening socket, reactor, sessions, signals, idle exit, order of shutdown. Blocks until it is told to stop. */
import {
  accept,
  type BorrowedFd,
  constants,
  errno,
  type OwnedFd,
  peerCredentials,
  SignalPipe,
  SyscallError,
  setNonBlocking,
} from "../../ffi/mod.ts";
import type { ShmlinkConfig } from "../config/schema.ts";
import { ConfigError, FailureError, ProtocolError } from "../errors.ts";
import type { Logger } from "../log.ts";
import type { ContextIdentity } from "../policy/types.ts";
import { ServerConnection } from "../protocol/connection.ts";
import { Notifier } from "../transport/notify.ts";
import { peerIdentity } from "../transport/peer.ts";
import { Reactor, type Registration } from "../transport/reactor.ts";
import { UnixTransport } from "../transport/unix.ts";
import { VERSION } from "../version.ts";
import { authorize, type BrokerCore, chargeQuota } from "./core.ts";
import { OwnSockets } from "./own-sockets.ts";
import { Quota } from "./quota.ts";
import { RateLimiter } from "./rate.ts";
import type { ContextRecord } from "./records.ts";
import { Registry } from "./registry.ts";
import { Session } from "./session.ts";

/** How long to leave the backlog alone when the process is out of descriptors. */
const EXHAUSTED_PAUSE_MS = 100;
/** Somebody who has connected and is not let in yet. */
type Newcomer = { readonly fd: OwnedFd; readonly context: ContextIdentity | undefined };

/** What a connection counts for, in messages: about as much work. */
const CONNECT_COST = 50;
/** Connections that may wait to be let in. */
const MAX_PARKED = 128;
const PARKED_MS = 5;

export type BrokerOptions = {
  /** Listening Unix stream sockets; taken. */
  readonly listeners: readonly OwnedFd[];
  readonly config: ShmlinkConfig;
  /** Reads the configuration again, for SIGHUP. @throws ConfigError */
  readonly reload?: () => ShmlinkConfig;
  readonly logger: Logger;
  /** For sd_notify(3): NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID. */
  readonly env: Readonly<Record<string, string | undefined>>;
};

export class Broker implements Disposable {
  readonly #reactor: Reactor = new Reactor();
  readonly #sessions: Set<Session> = new Set();
  readonly #core: BrokerCore;
  readonly #options: BrokerOptions;
  readonly #notifier: Notifier;
  readonly #parked: Newcomer[] = [];
  readonly #registrations: Map<OwnedFd, Registration> = new Map();
  #idleTimer: { cancel(): void } | undefined;
  #stopped = false;
  /** The signal that ended run(), if one did. */
  stoppedBy: number | undefined;

  constructor(options: BrokerOptions) {
    this.#options = options;
    this.#notifier = new Notifier(options.env);
    this.#core = {
      config: options.config,
      registry: new Registry(),
      quota: new Quota(options.config.limits),
      rate: new RateLimiter(options.config.limits.maxMessagesPerSecond),
      ownSockets: new OwnSockets(),
      logger: options.logger,
      version: VERSION,
      uid: process.geteuid?.() ?? 0,
      touched: new Set(),
      startedAtMs: Date.now(),
      startSession: (fd, owner) => this.#start(this.#connectionOn(fd), owner, fd),
      serveContext: (record) => this.#serveContext(record),
      sessions: () => this.#sessions,
      handleCore: (session, message) => this.#handleCore(session, message),
    };
    for (const listener of options.listeners) {
      this.#core.ownSockets.addListener(listener);
      this.#watch(listener);
    }
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
  }

  /** Waits for events, at most `timeoutMs` (-1: no limit), handles them and sends the answers. What a peer does wrong
   *  never comes out of here as an exception. */
  turn(timeoutMs: number): void {
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
      logger.info(`Configuration read again: ${this.#core.config.rules.length} rules`);
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

  /** @param context  what those who connect here belong to */
  #watch(listener: OwnedFd, context?: ContextRecord): void {
    this.#registrations.set(
      listener,
      this.#reactor.add(listener, constants.EPOLLIN, () => this.#accept(listener, context)),
    );
  }

  #serveContext(record: ContextRecord): void {
    const { listener, closeFd } = record;
    // Before anything else: this fails for what can never hang up.
    const watching = this.#reactor.add(closeFd, constants.EPOLLHUP, (events) => {
      if ((events & (constants.EPOLLHUP | constants.EPOLLERR)) === 0) return;
      watching.remove();
      this.#removeContext(record);
    });
    setNonBlocking(listener, true);
    this.#core.ownSockets.addListener(listener);
    this.#watch(listener, record);
    this.#core.registry.contexts.set(record.id, record);
    this.#core.logger.info(`Context ${record.name} begins`, { uid: record.owner.uid, pid: record.owner.pid });
  }

  /** Nobody comes in any more; who is in stays, as with a listening socket that is closed. */
  #removeContext({ id, name, listener, closeFd, owner }: ContextRecord): void {
    this.#core.registry.contexts.delete(id);
    this.#registrations.get(listener)?.remove();
    this.#registrations.delete(listener);
    this.#core.ownSockets.removeListener(listener);
    for (const fd of [listener, closeFd]) fd.close();
    this.#core.quota.release(owner, { contexts: 1 });
    this.#core.logger.info(`Context ${name} ends`);
    this.#armIdle();
  }

  #accept(listener: OwnedFd, context?: ContextRecord): void {
    try {
      const accepted = accept(listener);
      if (accepted !== null) this.#receive(accepted.fd, context);
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
      if (error.errno === errno.EMFILE || error.code === "ENFILE") this.#pause(listener, error, context);
      else this.#core.logger.warn(`Cannot accept: ${error.message}`);
    }
  }

  /** Out of descriptors: the backlog stays readable, so look away for a moment instead of spinning. */
  #pause(listener: OwnedFd, error: SyscallError, context: ContextRecord | undefined): void {
    this.#core.logger.warn(`Cannot accept: ${error.message}; raise LimitNOFILE= of the broker`);
    this.#registrations.get(listener)?.remove();
    this.#reactor.setTimer(EXHAUSTED_PAUSE_MS, () => {
      if (!listener.closed) this.#watch(listener, context);
    });
  }

  /** Who connects without end waits for his turn, and after that is turned away, before it costs more than a moment. */
  #receive(fd: OwnedFd, context: ContextRecord | undefined): void {
    if (context !== undefined) context.accepted += 1;
    const newcomer = { fd, context: context?.identity };
    if (this.#spendConnect(newcomer)) return this.#admit(newcomer);
    if (this.#parked.length >= MAX_PARKED) return fd.close();
    this.#parked.push(newcomer);
    if (this.#parked.length === 1) this.#reactor.setTimer(PARKED_MS, () => this.#unpark());
  }

  #spendConnect({ fd, context }: Newcomer): boolean {
    const { rate } = this.#core;
    const who = { uid: peerCredentials(fd).uid, context };
    const nowMs = performance.now();
    if (rate.waitMs(who, CONNECT_COST, nowMs) > 0) return false;
    rate.spend(who, CONNECT_COST, nowMs);
    return true;
  }

  #unpark(): void {
    for (const newcomer of this.#parked.splice(0)) {
      if (this.#spendConnect(newcomer)) this.#admit(newcomer);
      else this.#parked.push(newcomer);
    }
    if (this.#parked.length > 0) this.#reactor.setTimer(PARKED_MS, () => this.#unpark());
  }

  #connectionOn(fd: OwnedFd): ServerConnection {
    const { maxQueuedBytes } = this.#core.config.limits;
    return new ServerConnection(new UnixTransport(fd, { maxQueuedBytes }));
  }

  #admit({ fd, context }: Newcomer): void {
    const connection = this.#connectionOn(fd);
    let charged: Session["owner"] | undefined;
    try {
      const identity = peerIdentity(fd);
      identity.pidfd?.close();
      const { pidfd: _, ...known } = identity;
      const owner = { ...known, context };
      authorize(this.#core, owner, "connect", "");
      chargeQuota(this.#core, owner, { sessions: 1 });
      charged = owner;
      this.#start(connection, owner, fd);
    } catch (error) {
      if (charged !== undefined) this.#core.quota.release(charged, { sessions: 1 });
      if (error instanceof FailureError) refuse(connection, error.message);
      connection[Symbol.dispose]();
      if (!(error instanceof FailureError || error instanceof SyscallError)) throw error;
    }
  }

  #start(connection: ServerConnection, owner: Session["owner"], fd: BorrowedFd): Session {
    const onEnd = (ended: Session): void => {
      this.#sessions.delete(ended);
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
    const isBusy = this.#sessions.size > 0 || this.#parked.length > 0 || this.#core.registry.contexts.size > 0;
    if (idleMs === 0 || isBusy || this.#idleTimer !== undefined) return;
    this.#idleTimer = this.#reactor.setTimer(idleMs, () => {
      this.#idleTimer = undefined;
      this.#stopped ||= this.#sessions.size === 0 && this.#core.registry.contexts.size === 0;
    });
  }

  #handleCore(session: Session, message: Parameters<BrokerCore["handleCore"]>[1]): void {
    if (message.interface === "wl_display") {
      if (message.request.kind === "sync") {
        session.send(message.request.callback, "wl_callback", { kind: "done", callbackData: 0 });
        return;
      }
      const global = { kind: "global", name: 1, interface: "shmlink_manager_v1", version: 1 } as const;
      return session.send(message.request.registry, "wl_registry", global);
    }
    const { name, interface: wanted, version } = message.request;
    if (name !== 1 || wanted !== "shmlink_manager_v1" || version !== 1) {
      throw new ProtocolError(
        `Cannot bind "${wanted}" version ${version} as global ${name}: there is shmlink_manager_v1, version 1, as 1`,
        {
          objectId: message.object,
          wireCode: 0,
        },
      );
    }
  }

  [Symbol.dispose](): void {
    for (const session of [...this.#sessions]) session.end();
    for (const { fd } of this.#parked) fd.close();
    for (const { listener, closeFd } of this.#core.registry.contexts.values())
      for (const fd of [listener, closeFd]) fd.close();
    for (const listener of this.#options.listeners) listener.close();
    this.#reactor[Symbol.dispose]();
  }
}

/** Tells a peer that is not let in why, before the connection ends. */
function refuse(connection: ServerConnection, message: string): void {
  try {
    connection.sendError(1 as Parameters<ServerConnection["sendError"]>[0], 3, message);
    connection.flush();
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error; // it is gone already
  }
}

/** Runs a broker until it is told to stop. @returns the signal that stopped it, undefined after an idle exit */
export function runBroker(options: BrokerOptions): number | undefined {
  using broker = new Broker(options);
  broker.run();
  return broker.stoppedBy;
}

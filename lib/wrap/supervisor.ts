/** Answers the trapped calls of one tree of processes: receive, dispatch, answer. One thread; no handler waits. */
import {
  type BorrowedFd,
  constants,
  errno,
  errnoName,
  getFileLimit,
  type Notification,
  type OwnedFd,
  receiveNotification,
  respondContinue,
  respondError,
  respondValue,
  SyscallError,
} from "../../ffi/mod.ts";
import type { Logger } from "../log.ts";
import type { Reactor, Registration as Watching } from "../transport/reactor.ts";
import { assertNever } from "../util/assert-never.ts";
import { type Answer, CONTINUE, DONE, failure, value } from "./answer.ts";
import type { Call, Context, Handler } from "./context.ts";
import { Fdinfo } from "./fdinfo.ts";
import type { GivenSockets } from "./given-sockets.ts";
import { Accepting } from "./handlers/accept.ts";
import { handleBind } from "./handlers/bind.ts";
import { handleConnect } from "./handlers/connect.ts";
import { handleListen } from "./handlers/listen.ts";
import { handleGetpeername, handleGetsockname } from "./handlers/names.ts";
import { handleGetsockopt, handleSetsockopt } from "./handlers/options.ts";
import { handleSendto } from "./handlers/sendto.ts";
import { HoldingsFinder } from "./holdings.ts";
import type { Journal } from "./journal.ts";
import { LettingGo } from "./letting-go.ts";
import type { WrappedListener } from "./listener.ts";
import { Listeners } from "./listeners.ts";
import type { Domain } from "./names.ts";
import { Template } from "./options.ts";
import type { Registry } from "./registry.ts";
import { Resolver } from "./resolver.ts";
import type { Rule } from "./rules/types.ts";
import { Shortcut, type ShortcutResult } from "./shortcut.ts";
import { cookieOf } from "./socket.ts";
import { SocketTable } from "./socket-table.ts";
import { replaceLeft } from "./swap.ts";
import type { Machine, TrappedCall } from "./syscalls.ts";
import { CallGone, PidfdCache, Tracee } from "./tracee.ts";

const { EPOLLHUP, EPOLLIN } = constants;

export type SupervisorOptions = {
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
  /** Called once, when no process of the tree is left. */
  readonly onTreeEnd: () => void;
};

export class Supervisor implements Disposable {
  readonly #options: SupervisorOptions;
  readonly #context: Context;
  readonly #accepting: Accepting = new Accepting();
  readonly #handlers: ReadonlyMap<number, Handler>;
  readonly #names: ReadonlyMap<number, string>;
  /** What each cache of descriptors may hold. */
  readonly #share: number = shareOfDescriptors();
  readonly #pidfds: PidfdCache = new PidfdCache(this.#share);
  readonly #fdinfo: Fdinfo = new Fdinfo(this.#share);
  readonly #lettingGo: LettingGo = new LettingGo();
  readonly #templates: Map<Domain, Template> = new Map();
  readonly #watching: Watching;
  readonly #said: Set<string> = new Set();

  constructor(options: SupervisorOptions) {
    this.#options = options;
    this.#context = this.#makeContext(options);
    this.#handlers = this.#makeHandlers(options.machine);
    this.#names = new Map(Object.entries(options.machine.numbers).map(([name, number]) => [number, name]));
    this.#watching = options.reactor.add(options.notify, EPOLLIN, (events) => this.#onEvents(events));
  }

  #makeContext(options: SupervisorOptions): Context {
    const { notify, registry, namedRegistry, reactor, logger, directory, exposeTcp, rules, given, journal } = options;
    const table = new SocketTable<WrappedListener>();
    const listeners = new Listeners({
      reactor,
      registry: (name) => (name === undefined ? registry : namedRegistry(name)),
      table,
      logger,
      directory,
      onReady: (listener) => this.#accepting.resume(this.#context, listener),
      onClosed: (listener) => {
        this.#context.shortcut.forgetListener(listener);
        this.#accepting.abandon(this.#context, listener);
      },
    });
    const template = (domain: Domain): Template => this.#template(domain);
    const answer = (call: Call, what: Answer): boolean => this.#answer(call.id, what);
    const holdings = new HoldingsFinder();
    const resolver = new Resolver(registry);
    const shortcut = new Shortcut({
      notify,
      connect: options.machine.numbers.connect,
      lettingGo: this.#lettingGo,
      holdings,
      resolver,
      pidfds: this.#pidfds,
      journal,
      template: () => template(4),
      touched: () => table.touched,
      mostFiles: this.#share,
    });
    const services = {
      holdings,
      lettingGo: this.#lettingGo,
      shortcut,
      resolver,
      registry,
      listeners,
      reactor,
      logger,
      given,
      journal,
    };
    return { ...services, notify, table, exposeTcp, rules, template, answer };
  }

  #template(domain: Domain): Template {
    const known = this.#templates.get(domain);
    if (known !== undefined) return known;
    const made = new Template(domain);
    this.#templates.set(domain, made);
    return made;
  }

  #makeHandlers({ numbers }: Machine): ReadonlyMap<number, Handler> {
    const byName: Record<TrappedCall, Handler> = {
      bind: handleBind,
      listen: handleListen,
      connect: handleConnect,
      accept: (context, call) => this.#accepting.handleAccept(context, call),
      accept4: (context, call) => this.#accepting.handleAccept4(context, call),
      getsockname: handleGetsockname,
      getpeername: handleGetpeername,
      setsockopt: handleSetsockopt,
      getsockopt: handleGetsockopt,
      sendto: handleSendto,
      epoll_create: handleEpollCreate,
      epoll_create1: handleEpollCreate,
    };
    return new Map(Object.entries(byName).map(([name, handler]) => [numbers[name as TrappedCall], handler]));
  }

  #onEvents(events: number): void {
    if ((events & EPOLLIN) !== 0) return this.#receive();
    if ((events & EPOLLHUP) === 0) return;
    this.#watching.remove();
    this.#options.onTreeEnd();
  }

  /** One call for each time that there is one: receiving would block, and other descriptors have their turn. */
  #receive(): void {
    const start = performance.now();
    const result = this.#context.shortcut.serve(start);
    if (result === undefined) {
      const notification = receiveNotification(this.#options.notify);
      if (notification !== undefined) this.#serve(notification, start);
      return;
    }
    switch (result.kind) {
      case "left":
        return this.#serve(result.call, start);
      case "taken":
        this.#serve(result.call, start);
        if (result.listener.settle() === "dead") this.#context.listeners.remove(result.listener);
        return;
      case "served":
        return this.#count(result.nr, start, result.listener);
      case "still held":
      case "unanswered":
        this.#finishConnect(result);
        return this.#count(this.#options.machine.numbers.connect, start, undefined);
      default:
    }
  }

  #count(nr: number, start: number, listener: WrappedListener | undefined): void {
    const us = (performance.now() - start) * 1000;
    this.#options.journal.trap(this.#names.get(nr) ?? "", 0, us, () => "0"); // there is no trace
    listener?.counters.add("unix");
    listener?.counters.add("traps");
    listener?.counters.add("trapNs", Math.round(us * 1000));
  }

  /** A socket that the shortcut has put in place. */
  #finishConnect(result: Extract<ShortcutResult, { fd: OwnedFd }>): void {
    const context = this.#context;
    using fd = result.fd;
    let isAnswered = false;
    if (result.kind === "still held") {
      const call = this.#callOf(result.call);
      replaceLeft(context, call, result.from, fd);
      isAnswered = this.#answer(call.id, value(0));
    }
    if (!isAnswered) context.table.expectAcknowledgement(cookieOf(fd));
  }

  #callOf(notification: Notification): Call {
    const { id, args } = notification;
    return { id, args, tracee: new Tracee(this.#options.notify, notification, this.#pidfds, this.#fdinfo) };
  }

  #serve(notification: Notification, start: number): void {
    const { machine, journal } = this.#options;
    const { id, nr, pid } = notification;
    const call = this.#callOf(notification);
    const isForeign = notification.arch !== machine.auditArch;
    const answer = isForeign ? this.#refuseForeign(notification) : this.#handle(notification, call);
    this.#answer(id, answer);
    const us = (performance.now() - start) * 1000;
    journal.trap((isForeign ? undefined : this.#names.get(nr)) ?? `call ${nr}`, pid, us, () => describe(answer));
    this.#context.shortcut.meet(pid);
    call.counters?.add("traps");
    call.counters?.add("trapNs", Math.round(us * 1000));
  }

  #handle(notification: Notification, call: Call): Answer {
    const handler = this.#handlers.get(notification.nr);
    if (handler === undefined) return CONTINUE;
    try {
      return handler(this.#context, call);
    } catch (error) {
      return this.#afterError(notification, error);
    }
  }

  /** The program's own mistakes (not a socket, say) are the kernel's to report; so is what we may not look at. */
  #afterError({ pid, nr }: Notification, error: unknown): Answer {
    if (error instanceof CallGone) return DONE;
    if (!(error instanceof SyscallError)) throw error;
    if (error.errno === errno.EPERM) {
      const hint = "run shmlink with CAP_SYS_PTRACE, or the program as your own user";
      this.#sayOnce(
        `eperm ${pid}`,
        `Cannot look into thread ${pid} (${error.message}): it stays on plain TCP; ${hint}`,
      );
    } else if (error.errno !== errno.ENOTSOCK) {
      this.#options.logger.debug(`Left call ${nr} of thread ${pid} to the kernel: ${error.message}`);
    }
    return CONTINUE;
  }

  #refuseForeign({ pid }: Notification): Answer {
    this.#sayOnce("foreign", `Refused a socket call of a 32-bit program (thread ${pid}): wrap serves 64-bit programs`);
    return failure(errno.ENOSYS);
  }

  #sayOnce(key: string, message: string): void {
    if (this.#said.has(key) || this.#said.size > 64) return;
    this.#said.add(key);
    this.#options.logger.warn(message);
  }

  #answer(id: bigint, answer: Answer): boolean {
    const { notify } = this.#options;
    switch (answer.kind) {
      case "continue":
        return respondContinue(notify, id);
      case "value":
        return respondValue(notify, id, answer.value);
      case "error":
        return respondError(notify, id, answer.errno);
      case "later":
      case "done":
        return true;
      default:
        return assertNever(answer);
    }
  }

  [Symbol.dispose](): void {
    this.#watching.remove();
    this.#context.listeners[Symbol.dispose]();
    this.#context.shortcut[Symbol.dispose]();
    this.#pidfds[Symbol.dispose]();
    this.#fdinfo[Symbol.dispose]();
    this.#lettingGo[Symbol.dispose]();
    for (const template of this.#templates.values()) template[Symbol.dispose]();
  }
}

/** There are three caches, and most of our descriptors have to remain for sockets. */
function shareOfDescriptors(): number {
  return Math.min(Math.max(Number(getFileLimit().soft) >> 5, 2), 64);
}

/** Only to know of it: the kernel makes the set. */
function handleEpollCreate({ holdings }: Context): Answer {
  holdings.expectEpollSet();
  return CONTINUE;
}

/** For a trace. */
function describe(answer: Answer): string {
  if (answer.kind === "value") return String(answer.value);
  return answer.kind === "error" ? errnoName(answer.errno) : answer.kind;
}

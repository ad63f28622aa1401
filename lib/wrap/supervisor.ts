/** Answers the trapped calls of one tree of processes: receive, dispatch, answer. One thread; no handler waits. */
import {
  constants,
  errno,
  errnoName,
  type Notification,
  type OwnedFd,
  receiveNotification,
  respondContinue,
  respondError,
  respondValue,
  SyscallError,
} from "../../ffi/mod.ts";
import type { Registration as Watching } from "../transport/reactor.ts";
import { assertNever } from "../util/assert-never.ts";
import { type Answer, CONTINUE, DONE, failure, value } from "./answer.ts";
import type { Call, Context, Handler } from "./context.ts";
import { handlersFor } from "./handlers/table.ts";
import { Services, type ServicesOptions } from "./services.ts";
import type { ShortcutResult } from "./shortcut/shortcut.ts";
import { cookieOf } from "./socket.ts";
import { replaceLeft } from "./swap.ts";
import { CallGone, Tracee } from "./tracee.ts";

const { EPOLLHUP, EPOLLIN } = constants;

export type SupervisorOptions = ServicesOptions & {
  /** Called once, when no process of the tree is left. */
  readonly onTreeEnd: () => void;
};

export class Supervisor implements Disposable {
  readonly #options: SupervisorOptions;
  readonly #services: Services;
  readonly #context: Context;
  readonly #handlers: ReadonlyMap<number, Handler>;
  readonly #names: ReadonlyMap<number, string>;
  readonly #watching: Pick<Watching, "remove">;
  readonly #said: Set<string> = new Set();

  constructor(options: SupervisorOptions) {
    this.#options = options;
    this.#services = new Services(options, (call, what) => this.#answer(call.id, what));
    this.#context = this.#services.context;
    this.#handlers = handlersFor(options.machine, this.#services.accepting);
    this.#names = new Map(Object.entries(options.machine.numbers).map(([name, number]) => [number, name]));
    this.#watching = options.reactor.addDirect(options.notify, (events) => this.#onEvents(events));
  }

  #onEvents(events: number): void {
    if ((events & EPOLLIN) !== 0) return this.#receive();
    if ((events & EPOLLHUP) === 0) return;
    this.#watching.remove();
    this.#options.onTreeEnd();
  }

  /** A call for each time that there is one: receiving would block, and other descriptors have their turn. */
  #receive(): void {
    const { shortcut } = this.#context;
    const start = performance.now();
    const result = shortcut.serve(start);
    if (result === undefined) {
      const notification = receiveNotification(this.#options.notify);
      if (notification !== undefined) this.#serve(notification, start);
      return;
    }
    switch (result.kind) {
      case "left":
        return this.#serve(result.call, shortcut.startMs);
      case "taken":
        this.#serve(result.call, shortcut.startMs);
        if (result.listener.settle() === "dead") this.#context.listeners.remove(result.listener);
        return;
      case "still held":
      case "unanswered":
        this.#finishConnect(result);
        return this.#options.journal.trap("connect", 0, (performance.now() - shortcut.startMs) * 1000, () => "0");
      default:
    }
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
    const { pidfds, fdinfo } = this.#services;
    return { id, args, tracee: new Tracee(this.#options.notify, notification, pidfds, fdinfo) };
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
    this.#services[Symbol.dispose]();
  }
}

/** For a trace. */
function describe(answer: Answer): string {
  if (answer.kind === "value") return String(answer.value);
  return answer.kind === "error" ? errnoName(answer.errno) : answer.kind;
}

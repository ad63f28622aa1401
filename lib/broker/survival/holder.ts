/**
 * The process that holds descriptors while a broker is killed and the next one starts, where no service manager does.
 * It believes nobody but brokers of its own user, and waits for none of what it closes (closer.ts). It ends when a broker
 * ends and has left nothing with it, or when none has come for a minute.
 */
import {
  accept,
  constants,
  errno,
  OwnedFd,
  peerCredentials,
  poll,
  type Received,
  recvmsg,
  SyscallError,
  sendmsg,
} from "../../../ffi/mod.ts";
import { builtInConfig } from "../../config/schema.ts";
import { Reactor, type Registration, type TimerHandle } from "../../transport/reactor.ts";
import { closeAll } from "../../transport/transport.ts";
import { Closer } from "../closer.ts";
import { type Account, Quota } from "../quota.ts";
import { ALL, HELD, HELD_AT_A_TIME, STOPPING, STORE, UNSTORE } from "./holding.ts";

const { EPOLLIN, EPOLLOUT } = constants;
/** How long things are held for a broker that does not come: their owners may have ended, and nobody here would know. */
const HOLD_MS = 60_000;
/** When the system has nothing to give. */
const PAUSE_MS = 100;
/** For a broker that comes and does not read what we say. */
const HAND_OVER_MS = 10_000;
/** Whose things are nobody here knows: they are closed as if they were of so many users, each of whom has a thread. */
const NOBODYS: readonly Account[] = Array.from({ length: 24 }, (_, uid) => ({ uid, context: undefined }));

export type HolderOptions = {
  /** Of SOCK_SEQPACKET; taken. */
  readonly listener: OwnedFd;
  /** For a broker that ends without saying so; tried until there is one. Without it somebody else starts the next one. */
  readonly restart?: { readonly delayMs: () => number; readonly start: () => void };
};

export class Holder implements Disposable {
  readonly #reactor: Reactor = new Reactor();
  readonly #options: HolderOptions;
  readonly #accepting: Registration;
  readonly #held: Map<string, OwnedFd> = new Map();
  readonly #closer: Closer;
  #link: OwnedFd | undefined;
  #registration: Registration | undefined;
  #isStopping = false;
  readonly #timers: Set<TimerHandle> = new Set();

  constructor(options: HolderOptions) {
    this.#options = options;
    this.#closer = new Closer({
      quota: new Quota(builtInConfig.limits),
      setTimer: (delayMs, callback) => void this.#reactor.setTimer(delayMs, callback),
    });
    this.#accepting = this.#reactor.add(options.listener, EPOLLIN, () => this.#accept());
  }

  /** Holds, until there is nothing or nobody to hold it for. */
  run(): void {
    this.#setTimer(HOLD_MS, () => this.#reactor.stop());
    this.#reactor.run();
  }

  #setTimer(delayMs: number, callback: () => void): void {
    const timer = this.#reactor.setTimer(delayMs, () => {
      this.#timers.delete(timer);
      callback();
    });
    this.#timers.add(timer);
  }

  /** One broker at a time: the next one is heard when this one has ended. */
  #accept(): void {
    const link = this.#tryAccept();
    if (link === undefined) return;
    if (peerCredentials(link).uid !== process.geteuid?.() || !this.#handOver(link)) return link.close();
    for (const timer of this.#timers) timer.cancel();
    this.#timers.clear();
    this.#isStopping = false;
    this.#accepting.modify(0);
    this.#link = link;
    this.#registration = this.#reactor.add(link, EPOLLIN, () => this.#hear(link));
  }

  #tryAccept(): OwnedFd | undefined {
    try {
      return accept(this.#options.listener)?.fd;
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
      this.#accepting.modify(0); // no descriptor to be had: it stays readable, so look away for a moment
      this.#setTimer(PAUSE_MS, () => this.#accepting.modify(EPOLLIN));
      return undefined;
    }
  }

  /** It gets copies; what it does not want it says. */
  #handOver(link: OwnedFd): boolean {
    const all = [...this.#held];
    for (let at = 0; at < all.length; at += HELD_AT_A_TIME) {
      const part = all.slice(at, at + HELD_AT_A_TIME);
      const text = [HELD, ...part.map(([name]) => name)].join(" ");
      const fds = part.map(([, fd]) => fd);
      if (!sendPatiently(link, text, fds)) return false;
    }
    return sendPatiently(link, ALL, []);
  }

  #hear(link: OwnedFd): void {
    for (;;) {
      const said = receive(link);
      if (said === null) return;
      if (said.bytes.length === 0) return this.#ended(link);
      this.#obey(said);
      this.#closer.settle();
    }
  }

  #obey({ bytes, fds }: Received): void {
    const [verb, name = ""] = new TextDecoder().decode(bytes).split(" ");
    const [fd] = fds;
    if (verb === STOPPING) this.#isStopping = true;
    else if (verb === UNSTORE) this.#letGo(name);
    else if (verb === STORE && fd !== undefined) {
      this.#letGo(name);
      this.#held.set(name, this.#guard(fd));
      return closeAll(fds.slice(1));
    }
    closeAll(fds);
  }

  #guard(fd: OwnedFd): OwnedFd {
    return new OwnedFd(fd.take(), (number) => this.#closer.closingFor(this.#idlest())(number));
  }

  /** So that nothing waits behind what does not close, as long as there is another thread. */
  #idlest(): Account {
    return NOBODYS.reduce((one, other) => (this.#closer.backlogOf(one) <= this.#closer.backlogOf(other) ? one : other));
  }

  #letGo(name: string): void {
    this.#held.get(name)?.close();
    this.#held.delete(name);
  }

  #ended(link: OwnedFd): void {
    this.#registration?.remove();
    link.close();
    this.#link = undefined;
    if (this.#held.size === 0) return this.#reactor.stop();
    this.#accepting.modify(EPOLLIN);
    this.#setTimer(HOLD_MS, () => this.#reactor.stop());
    if (!this.#isStopping) this.#planNext();
  }

  #planNext(): void {
    const { restart } = this.#options;
    if (restart === undefined) return;
    this.#setTimer(restart.delayMs(), () => {
      restart.start();
      this.#planNext();
    });
  }

  /** Nobody can come any more while the rest is closed. */
  [Symbol.dispose](): void {
    this.#options.listener.close();
    this.#link?.close();
    closeAll([...this.#held.values()]);
    this.#closer[Symbol.dispose]();
    this.#reactor[Symbol.dispose]();
  }
}

/** A broker that ends without having read all that we said is an error first (ECONNRESET), and then what it said last. */
function receive(link: OwnedFd): Received | null {
  for (;;) {
    try {
      return recvmsg(link);
    } catch (error) {
      if (!(error instanceof SyscallError) || error.errno !== errno.ECONNRESET) throw error;
    }
  }
}

function sendPatiently(link: OwnedFd, text: string, fds: readonly OwnedFd[]): boolean {
  const bytes = new TextEncoder().encode(text);
  const deadline = performance.now() + HAND_OVER_MS;
  try {
    while (sendmsg(link, bytes, fds) === null) {
      const leftMs = deadline - performance.now();
      if (leftMs <= 0) return false;
      poll([{ fd: link, events: EPOLLOUT }], leftMs);
    }
    return true;
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    return error.errno !== errno.ETOOMANYREFS; // else it has ended: what it said before counts all the same
  }
}

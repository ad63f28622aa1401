/** The wrapped listeners of one tree: how they begin, how TCP clients reach them, how they end. */
import { randomBytes } from "node:crypto";
import { lstatSync, unlinkSync } from "node:fs";
import {
  type BorrowedFd,
  bind,
  constants,
  errno,
  fchmod,
  fstat,
  listen,
  type OwnedFd,
  SyscallError,
  setNonBlocking,
  socket,
  unixAddress,
} from "../../ffi/mod.ts";
import type { Logger } from "../log.ts";
import type { Reactor, Registration as Watching } from "../transport/reactor.ts";
import { borrowSocket, type Holder } from "./borrow.ts";
import { Counters } from "./counters.ts";
import { formatHost } from "./host.ts";
import { WrappedListener } from "./listener.ts";
import { ListenerWatch } from "./listener-watch.ts";
import { type ListenerName, listenerPath } from "./names.ts";
import { dressUnixSocket, type OptionValue } from "./options.ts";
import type { Registration, Registry } from "./registry.ts";
import { cookieOf } from "./socket.ts";
import type { SocketTable } from "./socket-table.ts";
import { isServed, whileUnswept } from "./sweep.ts";

const { AF_UNIX, EPOLLIN, SOCK_STREAM } = constants;

/** The kernel cuts it to net.core.somaxconn. A short backlog is a queue of SYNs to TCP, but EAGAIN to a Unix client. */
export const LONGEST_BACKLOG = 0x7fffffff;

const ACCEPTS_PER_TURN = 64;
const RETRY_MS = 100;

export type ListenersOptions = {
  readonly reactor: Reactor;
  readonly registry: Registry;
  readonly table: SocketTable<WrappedListener>;
  readonly logger: Logger;
  readonly directory: string;
  readonly exposeTcp: boolean;
  /** Called when a connection may be there for a parked accept(), or never will be. */
  readonly onReady: (listener: WrappedListener) => void;
  readonly onClosed: (listener: WrappedListener) => void;
};

export type NewListener = {
  readonly name: ListenerName;
  /** The program's TCP socket; taken. */
  readonly tcp: OwnedFd;
  readonly options: readonly OptionValue[];
  readonly nonBlocking: boolean;
  readonly v6only: boolean;
  readonly pid: number;
};

type Entry = {
  readonly registration: Registration;
  /** Of the socket file. */
  readonly inode: bigint;
  /** Of the socket itself, as in /proc/PID/fd. */
  readonly socket: bigint;
  watching: Watching | undefined;
  /** Where it was put last. */
  holder: Holder | undefined;
};

export class Listeners implements Disposable {
  readonly #options: ListenersOptions;
  readonly #watch: ListenerWatch<WrappedListener>;
  readonly #entries: Map<WrappedListener, Entry> = new Map();
  readonly #token: string = randomBytes(12).toString("hex");
  #lastSerial = 0;

  constructor(options: ListenersOptions) {
    this.#options = options;
    this.#watch = new ListenerWatch(options.reactor, {
      onClosed: (listener) => this.remove(listener),
      onConnection: options.onReady,
    });
  }

  /**
   * Makes the Unix listener and registers it. It is served from here on; the caller gives `unix` to the program and
   * then closes it, or calls remove().
   * @throws SyscallError, RangeError (path too long), FailureError: nothing is left behind, and `tcp` is closed
   */
  create(request: NewListener): { readonly listener: WrappedListener; readonly unix: OwnedFd } {
    using stack = new DisposableStack();
    stack.use(request.tcp);
    this.#lastSerial += 1;
    const path = listenerPath(this.#options.directory, request.name, process.pid, this.#lastSerial);
    const unix = stack.use(whileUnswept(this.#options.directory, () => listenOnPath(path)));
    const inode = lstatSync(path, { bigint: true }).ino;
    stack.defer(() => unlinkSame(path, inode));
    dressUnixSocket(unix, request.options);
    setNonBlocking(unix, request.nonBlocking);
    const counters = stack.use(new Counters(`shmlink:listener:${request.name.local.port}`));
    const registration = this.#register(request, path, counters);
    stack.move();
    const { name, tcp, options } = request;
    const listener = new WrappedListener({ name, path, tcp, counters, options, token: this.#token });
    this.#serve(listener, unix, {
      registration,
      inode,
      socket: fstat(unix).ino,
      watching: undefined,
      holder: undefined,
    });
    return { listener, unix };
  }

  #register({ name, v6only, pid }: NewListener, path: string, { fd }: Counters): Registration {
    const address = formatHost(name.local.host);
    const noTcp = !this.#options.exposeTcp;
    return this.#options.registry.register({ address, port: name.local.port, path, v6only, noTcp, pid, counters: fd });
  }

  #serve(listener: WrappedListener, unix: BorrowedFd, entry: Entry): void {
    const { table, reactor, logger, exposeTcp } = this.#options;
    this.#entries.set(listener, entry);
    table.addListener(listener, [cookieOf(unix), cookieOf(listener.tcp)]);
    if (!this.#watch.watch(listener, unix)) logger.debug("The end of a listener will not be noticed: no inotify watch");
    if (exposeTcp) entry.watching = reactor.add(listener.tcp, EPOLLIN, () => this.#onTcpConnection(listener, entry));
    logger.info(`Handed off ${listener.label}`, { path: listener.path });
  }

  /** Lets onReady be called when connections come to the program's Unix listener. @param unix  lent for the call */
  wakeOnConnection(listener: WrappedListener, unix: BorrowedFd): void {
    this.#watch.wakeOnConnection(listener, unix);
  }

  #onTcpConnection(listener: WrappedListener, entry: Entry): void {
    for (let count = 0; count < ACCEPTS_PER_TURN; count++) {
      const connection = this.#acceptTcp(listener, entry);
      if (connection === undefined) return;
      const announced = listener.offer(connection);
      if (announced === "dead") return this.remove(listener);
      this.#options.onReady(listener);
      if (announced === "full") return this.#pause(entry);
    }
  }

  #acceptTcp(listener: WrappedListener, entry: Entry): ReturnType<WrappedListener["acceptTcp"]> {
    try {
      return listener.acceptTcp();
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
      this.#options.logger.warn(`Cannot accept for ${listener.label}: ${error.message}`);
      this.#pause(entry); // EMFILE lasts until something is closed
      return undefined;
    }
  }

  /** TCP clients wait in the kernel meanwhile, as they would for a slow server. */
  #pause(entry: Entry): void {
    entry.watching?.modify(0);
    this.#options.reactor.setTimer(RETRY_MS, () => entry.watching?.modify(EPOLLIN));
  }

  /** The program has closed it, or is gone. Safe to call twice. */
  remove(listener: WrappedListener): void {
    const entry = this.#entries.get(listener);
    if (entry === undefined) return;
    this.#entries.delete(listener);
    this.#options.table.removeListener(listener);
    this.#watch.forget(listener);
    entry.watching?.remove();
    entry.watching = undefined;
    entry.registration.close();
    unlinkSame(listener.path, entry.inode);
    listener[Symbol.dispose]();
    this.#options.onClosed(listener);
    this.#options.logger.info(`Closed ${listener.label}`);
  }

  rememberHolder(listener: WrappedListener, process: number, number: number): void {
    const entry = this.#entries.get(listener);
    if (entry !== undefined) entry.holder = { process, number };
  }

  /** The Unix listener, from whoever has it. @returns undefined when nobody is found; the caller closes it soon */
  borrowUnix(listener: WrappedListener): OwnedFd | undefined {
    const entry = this.#entries.get(listener);
    return entry && borrowSocket(entry.socket, entry.holder);
  }

  /** The listener of exactly that address, of this tree. */
  findNamed({ domain, local }: ListenerName): WrappedListener | undefined {
    const wanted = `${domain} ${formatHost(local.host)} ${local.port}`;
    for (const listener of this.#entries.keys()) {
      const { domain: known, local: at } = listener.name;
      if (`${known} ${formatHost(at.host)} ${at.port}` === wanted) return listener;
    }
    return undefined;
  }

  /** The listener with that path, of this tree. */
  find(path: string): WrappedListener | undefined {
    for (const listener of this.#entries.keys()) if (listener.path === path) return listener;
    return undefined;
  }

  [Symbol.dispose](): void {
    for (const listener of [...this.#entries.keys()]) this.remove(listener);
    this.#watch[Symbol.dispose]();
  }
}

/** Mode 0600 from the first moment: a Unix socket takes its mode from the unbound socket's inode. */
function listenOnPath(path: string): OwnedFd {
  const address = unixAddress(path);
  const fd = socket(AF_UNIX, SOCK_STREAM);
  try {
    fchmod(fd, 0o600);
    bindOrReplace(fd, address, path);
    listen(fd, LONGEST_BACKLOG);
    return fd;
  } catch (error) {
    fd.close();
    throw error;
  }
}

/** A file that is there is of a dead process: of one with our pid. */
function bindOrReplace(fd: BorrowedFd, address: Uint8Array, path: string): void {
  try {
    bind(fd, address, path);
  } catch (error) {
    if (!(error instanceof SyscallError) || error.errno !== errno.EADDRINUSE || isServed(path)) throw error;
    unlinkSync(path);
    bind(fd, address, path);
  }
}

/** Only the file that we made: somebody may have removed it and put another in its place. */
function unlinkSame(path: string, inode: bigint): void {
  try {
    if (lstatSync(path, { bigint: true }).ino === inode) unlinkSync(path);
  } catch {
    // already gone
  }
}

/** The wrapped listeners of one tree: how they begin, how TCP clients reach them, how they end. */
import { type BorrowedFd, constants, fstat, getFileLimit, type OwnedFd, SyscallError } from "../../ffi/mod.ts";
import type { Logger } from "../log.ts";
import type { Reactor, Registration as Watching } from "../transport/reactor.ts";
import { randomHex } from "../util/random.ts";
import { borrowSocket, type Holder } from "./borrow.ts";
import { Counters } from "./counters.ts";
import type { Ending, EndWatch } from "./end-watch.ts";
import { formatHost } from "./host.ts";
import { Inheritance } from "./inheritance.ts";
import { WrappedListener } from "./listener.ts";
import { ListenerWatch } from "./listener-watch.ts";
import type { ListenerName } from "./names.ts";
import { dressUnixSocket, type Template } from "./options.ts";
import { type Access, openSocketFile, type Place, placeListener, unlinkSame } from "./place.ts";
import type { Registration, Registry } from "./registry.ts";
import { addAlias, cookieOf, removeAlias } from "./socket.ts";
import type { SocketTable } from "./socket-table.ts";

const { EPOLLIN } = constants;

const ACCEPTS_PER_TURN = 64;
const RETRY_MS = 100;

export type ListenersOptions = {
  readonly reactor: Reactor;
  /** @param name  what listings call the program; undefined for its usual name */
  readonly registry: (name: string | undefined) => Registry;
  readonly table: SocketTable<WrappedListener>;
  readonly logger: Logger;
  readonly directory: string;
  readonly ends: EndWatch;
  /** Called when a connection may be there for a parked accept(), or never will be. */
  readonly onReady: (listener: WrappedListener) => void;
  readonly onClosed: (listener: WrappedListener) => void;
};

export type NewListener = {
  readonly name: ListenerName;
  /** The program's TCP socket; taken. */
  readonly tcp: OwnedFd;
  readonly template: Template;
  readonly v6only: boolean;
  readonly pid: number;
  readonly place: Place;
  readonly access: Access;
  /** Whether plain TCP clients reach it too. */
  readonly exposeTcp: boolean;
  readonly keepsFile: boolean;
  readonly serviceName: string | undefined;
};

type Entry = {
  readonly registration: Registration | undefined;
  /** Of the socket file, if it is to go with the listener. */
  readonly inode: bigint | undefined;
  readonly exposeTcp: boolean;
  /** Of the socket itself, as in /proc/PID/fd. */
  readonly socket: bigint;
  /** Whether it was said that its socket file is gone. */
  isFileGone: boolean;
  /** Whether it was said that we cannot connect to its socket. */
  isBarred: boolean;
  watching: Watching | undefined;
  ending: Ending | undefined;
  /** Where it was put last. */
  holder: Holder | undefined;
};

export class Listeners implements Disposable {
  readonly #options: ListenersOptions;
  readonly #watch: ListenerWatch<WrappedListener>;
  readonly #entries: Map<WrappedListener, Entry> = new Map();
  readonly #token: string = randomHex(12);
  readonly #mostHeld: number = Math.floor(Number(getFileLimit().soft) / 4);
  #lastSerial = 0;

  constructor(options: ListenersOptions) {
    this.#options = options;
    this.#watch = new ListenerWatch(options.reactor, options.onReady);
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
    const { name, tcp, template, place, access } = request;
    const placed = placeListener(place, access, this.#options.directory, name, this.#lastSerial);
    const unix = stack.use(placed.unix);
    stack.defer(() => unlinkSame(placed.path ?? "", placed.inode));
    const file = stack.use(openSocketFile(placed.path));
    dressUnixSocket(unix, template.commonOptions(tcp));
    const counters = stack.use(new Counters(`shmlink:listener:${name.local.port}`));
    const registration = this.#register(request, placed.path, counters);
    stack.move();
    const { path = "", address } = placed;
    const shared = { name, path, file, address, tcp, counters, token: this.#token };
    const listener = new WrappedListener({ ...shared, inheritance: new Inheritance(template, tcp, unix) });
    this.#serve(listener, unix, {
      registration,
      inode: request.keepsFile ? undefined : placed.inode,
      socket: fstat(unix).ino,
      exposeTcp: request.exposeTcp,
      isFileGone: false,
      isBarred: false,
      watching: undefined,
      ending: undefined,
      holder: undefined,
    });
    return { listener, unix };
  }

  /** Others are told of what has a path that they can open. */
  #register(request: NewListener, path: string | undefined, { fd }: Counters): Registration | undefined {
    if (path?.startsWith("/") !== true) return undefined;
    const { name, v6only, pid, exposeTcp } = request;
    const address = formatHost(name.local.host);
    const listener = { address, port: name.local.port, path, v6only, noTcp: !exposeTcp, pid, counters: fd };
    return this.#options.registry(request.serviceName).register(listener);
  }

  #serve(listener: WrappedListener, unix: BorrowedFd, entry: Entry): void {
    const { table, reactor, logger, ends } = this.#options;
    this.#entries.set(listener, entry);
    addAlias(listener.address, listener.name);
    table.addListener(listener, [cookieOf(unix), listener.tcpCookie]);
    entry.ending = ends.watch(unix, () => this.remove(listener));
    if (entry.ending === undefined) logger.debug("The end of a listener will not be noticed: no inotify watch");
    if (entry.exposeTcp) {
      entry.watching = reactor.add(listener.tcp, EPOLLIN, () => this.#onTcpConnection(listener, entry));
    }
    logger.info(`Handed off ${listener.label}`, { path: listener.path });
  }

  /** Lets onReady be called when connections come to the program's Unix listener. @param unix  lent for the call */
  wakeOnConnection(listener: WrappedListener, unix: BorrowedFd): void {
    this.#watch.wakeOnConnection(listener, unix);
  }

  #onTcpConnection(listener: WrappedListener, entry: Entry): void {
    this.#lookForFile(listener, entry);
    for (let count = 0; count < ACCEPTS_PER_TURN; count++) {
      if (this.#holdsEnough(listener)) return this.#pause(listener, entry);
      const connection = this.#acceptTcp(listener, entry);
      if (connection === undefined) return;
      const announced = listener.offer(connection);
      if (announced === "dead") return this.remove(listener);
      this.#options.onReady(listener);
      if (announced === "barred") this.#sayBarred(listener, entry);
      if (announced !== "announced") return this.#pause(listener, entry);
    }
  }

  #lookForFile(listener: WrappedListener, entry: Entry): void {
    if (entry.isFileGone || !listener.isFileGone()) return;
    entry.isFileGone = true;
    this.#options.logger.warn(`The socket file of ${listener.label} is gone: wrapped clients reach it over TCP`, {
      path: listener.path,
    });
  }

  #sayBarred(listener: WrappedListener, entry: Entry): void {
    if (entry.isBarred) return;
    entry.isBarred = true;
    const what = "plain TCP clients wait until its program calls accept()";
    this.#options.logger.warn(`Cannot connect to the socket of ${listener.label}: ${what}`, { path: listener.path });
  }

  /** A server that does not accept must not take the descriptors that all calls are answered with, nor stop others'. */
  #holdsEnough(listener: WrappedListener): boolean {
    if (listener.heldCount === 0) return false;
    let held = 0;
    for (const each of this.#entries.keys()) held += each.heldCount;
    return held >= this.#mostHeld;
  }

  #acceptTcp(listener: WrappedListener, entry: Entry): ReturnType<WrappedListener["acceptTcp"]> {
    try {
      return listener.acceptTcp();
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
      this.#options.logger.warn(`Cannot accept for ${listener.label}: ${error.message}`);
      this.#pause(listener, entry); // EMFILE lasts until something is closed
      return undefined;
    }
  }

  /** TCP clients wait in the kernel meanwhile, as they would for a slow server. */
  #pause(listener: WrappedListener, entry: Entry): void {
    entry.watching?.modify(0);
    this.#options.reactor.setTimer(RETRY_MS, () => {
      if (entry.watching === undefined) return;
      const announced = listener.remind();
      if (announced === "dead") return this.remove(listener);
      if (announced === "announced") entry.watching.modify(EPOLLIN);
      else this.#pause(listener, entry);
    });
  }

  /** The program has shut it down, and not closed it. TCP refuses connections then, and keeps a port that was asked for,
   *  until listen(2) is called again. Safe to call twice. */
  shutDown(listener: WrappedListener): void {
    const entry = this.#entries.get(listener);
    entry?.registration?.close();
    if (entry?.watching === undefined) return;
    entry.watching.remove();
    entry.watching = undefined;
    listener.refuseTcp();
  }

  /** The program has closed it, or is gone. Safe to call twice. */
  remove(listener: WrappedListener): void {
    const entry = this.#entries.get(listener);
    if (entry === undefined) return;
    this.#entries.delete(listener);
    this.#options.table.removeListener(listener);
    this.#watch.forget(listener);
    entry.ending?.forget();
    entry.watching?.remove();
    entry.watching = undefined;
    entry.registration?.close();
    removeAlias(listener.address);
    listener[Symbol.dispose]();
    unlinkSame(listener.path, entry.inode); // last: where it is gone, the port is closed too
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

  /** The listener whose socket says that address of itself, of this tree. */
  find(path: string): WrappedListener | undefined {
    for (const listener of this.#entries.keys()) if (listener.address === path) return listener;
    return undefined;
  }

  /** Whether a listener of this tree has that file or name. */
  holds(path: string): boolean {
    for (const listener of this.#entries.keys()) if (listener.path === path) return true;
    return false;
  }

  [Symbol.dispose](): void {
    for (const listener of [...this.#entries.keys()]) this.remove(listener);
    this.#watch[Symbol.dispose]();
  }
}

/**
 * One TCP listener of the program and the Unix listener that took its place. We keep the TCP socket, never the Unix
 * one: a descriptor of ours would make a dead server look alive. What wakes the program is its own Unix listener, so
 * a connection from elsewhere (a TCP client; one whose accept() was interrupted after we took it) is *announced*: it
 * waits here and a marker is connected to the Unix listener, which the next accept() exchanges for it.
 *
 * All accept() calls come through one supervisor, so after poll(2) says that a connection is there, nobody else takes
 * it and accept(2) cannot block, whatever O_NONBLOCK, which belongs to the program, says.
 */
import {
  type Accepted,
  accept,
  type BorrowedFd,
  bind,
  connect,
  constants,
  errno,
  fstat,
  type OwnedFd,
  pollNow,
  readUnixAddress,
  SyscallError,
  setNonBlocking,
  shutdown,
  socket,
  unixAddress,
} from "../../ffi/mod.ts";
import type { Counters } from "./counters.ts";
import { formatHost, hostPort } from "./host.ts";
import type { Inheritance } from "./inheritance.ts";
import { isMarkerName, isProbeName, type ListenerName, markerName } from "./names.ts";
import { dressUnixSocket, setOptions } from "./options.ts";
import { cookieOf } from "./socket.ts";
import type { Cookie } from "./socket-table.ts";

const { AF_UNIX, EPOLLIN, EPOLLRDHUP, SOCK_NONBLOCK, SOCK_STREAM } = constants;

/** `address`: of its peer as accept(2) told it, before a reset could make it unknown. */
export type Connection = {
  readonly kind: "unix" | "tcp";
  readonly fd: OwnedFd;
  readonly address: Uint8Array;
  readonly isNonBlocking: boolean;
};

export type WrappedListenerOptions = {
  readonly name: ListenerName;
  /** What to connect to; "" for nothing. */
  readonly path: string;
  /** What that path was, opened with O_PATH; taken. */
  readonly file: OwnedFd | undefined;
  /** What the Unix socket says of itself. */
  readonly address: string;
  /** The program's TCP socket, bound; taken. */
  readonly tcp: OwnedFd;
  readonly counters: Counters;
  readonly inheritance: Inheritance;
  /** A secret of this supervisor: who knows it can make markers. */
  readonly token: string;
};

/** "full": the program is far behind and its backlog is full, or we have no descriptor left; "barred": we may not connect to its
 *  socket, or do not find it; "dead": nobody listens there any more. */
export type Announced = "announced" | "full" | "barred" | "dead";

let lastMarker = 0;

export class WrappedListener implements Disposable {
  readonly name: ListenerName;
  readonly path: string;
  readonly address: string;
  readonly tcp: OwnedFd;
  readonly tcpCookie: Cookie;
  readonly counters: Counters;
  /** What its connections get. */
  readonly inheritance: Inheritance;
  readonly #file: OwnedFd | undefined;
  readonly #adopted: Accepted[] = [];
  readonly #token: string;
  readonly #waiting: Connection[] = [];
  /** Whether the last one could not be announced. */
  #owesMarker = false;

  constructor({ name, path, file, address, tcp, counters, inheritance, token }: WrappedListenerOptions) {
    this.name = name;
    this.path = path;
    this.#file = file;
    this.address = address;
    this.tcp = tcp;
    this.tcpCookie = cookieOf(tcp);
    this.counters = counters;
    this.inheritance = inheritance;
    this.#token = token;
  }

  /** For messages: tcp:127.0.0.1:8123. */
  get label(): string {
    const { host, port } = this.name.local;
    return `tcp:${hostPort(formatHost(host), port)}`;
  }

  /** How many connections wait here, each with a descriptor of ours. */
  get heldCount(): number {
    return this.#waiting.length;
  }

  /** Whether somebody has removed its socket file, or put another in its place. */
  isFileGone(): boolean {
    return this.#file !== undefined && fstat(this.#file).links === 0;
  }

  /** Takes the next TCP connection that the kernel has made, if there is one. */
  acceptTcp(): Connection | undefined {
    const accepted = acceptReady(this.tcp, false);
    return accepted === undefined ? undefined : { kind: "tcp", ...accepted, isNonBlocking: false };
  }

  /** From now on, until listen(2). */
  refuseTcp(): void {
    try {
      shutdown(this.tcp, constants.SHUT_RD);
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error; // ENOTCONN: the program has, by a duplicate that is TCP still
    }
  }

  /** Keeps a connection for the next accept() and wakes the program for it. Takes the connection. */
  offer(connection: Connection): Announced {
    this.#waiting.push(connection);
    return this.#announce();
  }

  /** Announces what could not be. */
  remind(): Announced {
    return this.#owesMarker && this.#waiting.length > 0 ? this.#announce() : "announced";
  }

  #announce(): Announced {
    const announced = this.#sendMarker();
    this.#owesMarker = announced !== "announced";
    return announced;
  }

  #sendMarker(): Announced {
    using marker = this.#makeMarker();
    if (marker === undefined) return "full";
    const path = this.#file === undefined ? this.path : `/proc/self/fd/${this.#file.number}`;
    try {
      connect(marker, unixAddress(path), this.path);
      return "announced"; // it keeps its name in the queue although our end closes here
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
      if (error.errno === errno.EAGAIN) return "full";
      const isTheSame = this.#file !== undefined || this.path.startsWith("@"); // a path alone may be another's here
      return error.errno === errno.ECONNREFUSED && isTheSame ? "dead" : "barred";
    }
  }

  #makeMarker(): OwnedFd | undefined {
    let marker: OwnedFd | undefined;
    try {
      marker = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK);
      lastMarker += 1;
      bind(marker, unixAddress(markerName(this.#token, lastMarker)));
      return marker;
    } catch (error) {
      marker?.close();
      if (error instanceof SyscallError) return undefined;
      throw error;
    }
  }

  /** Takes the next connection for the program. @param unix  its listener, lent; undefined to serve only what waits here
   *  @param isNonBlocking  wished for: what waited may differ
   *  @throws SyscallError EINVAL when the program has shut the listener down */
  take(unix: BorrowedFd | undefined, isNonBlocking: boolean): Connection | undefined {
    while (unix !== undefined) {
      const accepted = this.#adopted.shift() ?? acceptReady(unix, isNonBlocking);
      if (accepted === undefined) break;
      const peer = readUnixAddress(accepted.address) ?? "";
      if (isProbeName(peer)) {
        accepted.fd.close();
        continue;
      }
      this.inheritance.update(this.tcp, unix);
      if (!isMarkerName(peer, this.#token)) {
        dressUnixSocket(accepted.fd, this.inheritance.options);
        return { kind: "unix", ...accepted, isNonBlocking };
      }
      accepted.fd.close();
      const announced = this.#shift();
      if (announced !== undefined) return announced; // else a marker of a connection that went another way
    }
    return this.#shift();
  }

  /** The kernel may have made a TCP connection before the TCP socket was given what the Unix socket was given. */
  #shift(): Connection | undefined {
    const connection = this.#waiting.shift();
    if (connection?.kind === "tcp") setOptions(connection.fd, this.inheritance.setLater);
    return connection;
  }

  /** Somebody else has accepted that from the Unix listener: the next take() finds it. settle() has to follow. */
  adopt(accepted: Accepted): void {
    this.#adopted.push(accepted);
  }

  /** What was adopted and nobody has taken comes again, as a connection from elsewhere does. */
  settle(): Announced {
    let announced: Announced = "announced";
    for (const { fd, address } of this.#adopted.splice(0)) {
      const peer = readUnixAddress(address) ?? "";
      const isConnection = !isProbeName(peer) && !isMarkerName(peer, this.#token);
      if (!isConnection) fd.close();
      if (isProbeName(peer)) continue;
      if (isConnection) {
        dressUnixSocket(fd, this.inheritance.options);
        setNonBlocking(fd, false);
        announced = this.offer({ kind: "unix", fd, address, isNonBlocking: false });
      } else if (this.#waiting.length > 0) announced = this.#announce();
    }
    return announced;
  }

  [Symbol.dispose](): void {
    for (const { fd } of [...this.#waiting.splice(0), ...this.#adopted.splice(0)]) fd.close();
    this.tcp.close();
    this.#file?.close();
    this.counters[Symbol.dispose]();
  }
}

/** Of one that is shut down accept(2) of a Unix socket would take what is queued, and say EAGAIN where it may not block. */
function acceptReady(fd: BorrowedFd, isNonBlocking: boolean): Accepted | undefined {
  const events = pollNow(fd, EPOLLIN | EPOLLRDHUP);
  if ((events & EPOLLRDHUP) !== 0) throw new SyscallError("accept", errno.EINVAL);
  return events === 0 ? undefined : (accept(fd, isNonBlocking ? SOCK_NONBLOCK : 0) ?? undefined);
}

/**
 * accept(2) and accept4(2). The connection is taken here, because the kernel would write a Unix address, and because
 * it may be a marker for a TCP connection. A blocking call with nobody waiting is parked: its notification stays
 * unanswered until a connection comes, and meanwhile nothing of the listener is held open.
 */
import {
  addFd,
  constants,
  errno,
  getStatusFlags,
  getsockopt,
  type OwnedFd,
  readUnixAddress,
  SyscallError,
  setNonBlocking,
} from "../../../ffi/mod.ts";
import type { TimerHandle } from "../../transport/reactor.ts";
import { type Answer, CONTINUE, DONE, failure, LATER, readLength, writeResult } from "../answer.ts";
import type { Call, Context } from "../context.ts";
import type { Connection, WrappedListener } from "../listener.ts";
import { remoteOf } from "../names.ts";
import { cookieOf, socketAddress, strangerPort } from "../socket.ts";
import type { Cookie } from "../socket-table.ts";
import { CallGone } from "../tracee.ts";

const { O_CLOEXEC, O_NONBLOCK, SOCK_CLOEXEC, SOCK_NONBLOCK, SOL_SOCKET } = constants;
const { EAGAIN, EBADF, EFAULT, EINVAL, EMFILE, ENFILE } = errno;

const RETRY_MS = 100;

type Parked = { readonly call: Call; readonly flags: number; timer: TimerHandle | undefined };

/** The accept() calls of one tree, and those of them that wait. */
export class Accepting {
  readonly #parked: Map<WrappedListener, Parked[]> = new Map();

  handleAccept(context: Context, call: Call): Answer {
    return this.#begin(context, call, 0);
  }

  handleAccept4(context: Context, call: Call): Answer {
    return this.#begin(context, call, call.args[3]);
  }

  /** Without a descriptor for us the call fails as it does without one for the program: the kernel would take what is
   *  no connection. */
  #begin(context: Context, call: Call, flags: number): Answer {
    try {
      return this.#serve(context, call, flags);
    } catch (error) {
      if (error instanceof SyscallError && isShort(error)) return failure(error.errno);
      throw error;
    }
  }

  #serve(context: Context, call: Call, flags: number): Answer {
    using fd = call.tracee.descriptor(call.args[0]);
    const cookie = fd && cookieOf(fd);
    const listener = cookie === undefined ? undefined : context.table.listener(cookie);
    if (fd === undefined || cookie === undefined || listener === undefined) return CONTINUE;
    call.counters = listener.counters;
    if ((flags & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) !== 0) return failure(EINVAL);
    const answer = serve(context, call, flags, { listener, fd, cookie });
    if (answer !== undefined) return answer;
    if ((getStatusFlags(fd) & O_NONBLOCK) !== 0) return failure(EAGAIN);
    this.#park(context, call, flags, listener, fd);
    return LATER;
  }

  #park(context: Context, call: Call, flags: number, listener: WrappedListener, fd: OwnedFd): void {
    context.listeners.wakeOnConnection(listener, fd);
    const parked: Parked = { call, flags, timer: undefined };
    const timeoutMs = receiveTimeoutMs(fd);
    if (timeoutMs > 0)
      parked.timer = context.reactor.setTimer(timeoutMs, () => this.#giveUp(context, listener, parked));
    // A thread waits in one call at a time: what it waited in before was interrupted.
    const others = this.#others(listener, ({ call: other }) => other.tracee.thread !== call.tracee.thread);
    this.#parked.set(listener, [...others, parked]);
  }

  #others(listener: WrappedListener, isKept: (parked: Parked) => boolean): Parked[] {
    const all = this.#parked.get(listener) ?? [];
    for (const parked of all) if (!isKept(parked)) parked.timer?.cancel();
    return all.filter(isKept);
  }

  #giveUp(context: Context, listener: WrappedListener, parked: Parked): void {
    this.#parked.set(
      listener,
      this.#others(listener, (other) => other !== parked),
    );
    context.answer(parked.call, failure(EAGAIN));
  }

  /** A connection may be there: serves those who wait, the longest first. */
  resume(context: Context, listener: WrappedListener): void {
    for (const parked of this.#parked.get(listener) ?? []) {
      const answer = this.#tryServe(context, parked, listener);
      if (answer === undefined) return;
      this.#parked.set(
        listener,
        this.#others(listener, (other) => other !== parked),
      );
      context.answer(parked.call, answer);
    }
  }

  /** @returns undefined while there is nothing to take, or no descriptor to take it with */
  #tryServe(context: Context, parked: Parked, listener: WrappedListener): Answer | undefined {
    try {
      return tryServe(context, parked, listener);
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
      if (!isShort(error)) return failure(error.errno);
      context.reactor.setTimer(RETRY_MS, () => this.resume(context, listener)); // until something is closed
      return undefined;
    }
  }

  /** The listener has been closed under those who wait. */
  abandon(context: Context, listener: WrappedListener): void {
    const parked = this.#parked.get(listener) ?? [];
    this.#parked.delete(listener);
    for (const { call, timer } of parked) {
      timer?.cancel();
      context.answer(call, failure(EBADF));
    }
  }
}

/** Whether we had no descriptor left. */
function isShort({ errno }: SyscallError): boolean {
  return errno === EMFILE || errno === ENFILE;
}

/** @returns undefined while there is nothing to take; DONE when nobody waits any more */
function tryServe(context: Context, { call, flags }: Parked, listener: WrappedListener): Answer | undefined {
  try {
    using own = call.tracee.descriptor(call.args[0]);
    const cookie = own && cookieAs(context, own, listener);
    if (own !== undefined && cookie !== undefined) return serve(context, call, flags, { listener, fd: own, cookie });
    // The number means another file by now, or none: a call in the kernel would still have the listener, as others have.
    using fd = context.listeners.borrowUnix(listener);
    return fd === undefined ? failure(EBADF) : serve(context, call, flags, { listener, fd, cookie: cookieOf(fd) });
  } catch (error) {
    if (error instanceof CallGone) return DONE;
    throw error;
  }
}

/** undefined for a file that is not that listener. */
function cookieAs({ table }: Context, fd: OwnedFd, listener: WrappedListener): Cookie | undefined {
  try {
    const cookie = cookieOf(fd);
    return table.listener(cookie) === listener ? cookie : undefined;
  } catch (error) {
    if (error instanceof SyscallError) return undefined; // ENOTSOCK
    throw error;
  }
}

/** A descriptor of the program's, lent, and the listener that it means. */
type Source = { readonly listener: WrappedListener; readonly fd: OwnedFd; readonly cookie: Cookie };

/** Takes a connection and gives it to the call. @returns undefined when there is none */
function serve(context: Context, call: Call, flags: number, source: Source): Answer | undefined {
  const { listener } = source;
  const [, address, lengthAddress] = call.args;
  const room = address === 0 ? 0 : readLength(call.tracee, lengthAddress);
  if (room < 0) return failure(-room);
  const connection = take(source, (flags & SOCK_NONBLOCK) !== 0);
  if (connection === undefined) return undefined;
  if ("errno" in connection) {
    if (connection.errno === EINVAL) context.listeners.shutDown(listener);
    return failure(connection.errno);
  }
  try {
    return give(context, call, flags, source, connection, room);
  } catch (error) {
    giveBack(context, listener, connection);
    throw error;
  }
}

function take(
  { listener, fd, cookie }: Source,
  isNonBlocking: boolean,
): Connection | { readonly errno: number } | undefined {
  try {
    // A duplicate that the hand-off did not reach is still the TCP socket: it gets TCP connections only.
    if (cookie === listener.tcpCookie) return listener.take(undefined, isNonBlocking) ?? listener.acceptTcp();
    return listener.take(fd, isNonBlocking);
  } catch (error) {
    if (error instanceof SyscallError) return { errno: error.errno };
    throw error;
  }
}

function give(
  context: Context,
  { id, tracee, args }: Call,
  flags: number,
  { listener, cookie }: Source,
  connection: Connection,
  room: number,
): Answer {
  const [, address, lengthAddress] = args;
  if (address !== 0 && writeResult(tracee, { address, lengthAddress, room }, peerAddress(listener, connection)) !== 0) {
    connection.fd.close(); // as the kernel does
    return failure(EFAULT);
  }
  if ((flags & SOCK_NONBLOCK) !== 0 && !connection.isNonBlocking) setNonBlocking(connection.fd, true);
  try {
    const installed = addFd(
      context.notify,
      id,
      connection.fd,
      { kind: "answer" },
      (flags & SOCK_CLOEXEC) === 0 ? 0 : O_CLOEXEC,
    );
    if (installed === undefined) throw new CallGone();
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    giveBack(context, listener, connection);
    return failure(EMFILE); // the kernel says EBADF for a number beyond RLIMIT_NOFILE
  }
  listener.counters.add(connection.kind);
  if (connection.kind === "unix") context.shortcut.learnListener(listener, cookie);
  connection.fd.close();
  return DONE;
}

function giveBack({ listeners }: Context, listener: WrappedListener, connection: Connection): void {
  if (connection.fd.closed) return;
  setNonBlocking(connection.fd, false);
  if (listener.offer({ ...connection, isNonBlocking: false }) === "dead") listeners.remove(listener);
}

function peerAddress(listener: WrappedListener, { kind, fd, address }: Connection): Uint8Array {
  if (kind === "tcp") return address;
  const peer = readUnixAddress(address) ?? "";
  return socketAddress(
    listener.name.domain,
    remoteOf(listener.name, peer, () => strangerPort(cookieOf(fd))),
  );
}

/** SO_RCVTIMEO, which bounds a blocking accept(); 0 for none. */
function receiveTimeoutMs(fd: OwnedFd): number {
  const bytes = getsockopt(fd, SOL_SOCKET, constants.SO_RCVTIMEO, 16); // struct timeval
  const data = new DataView(bytes.buffer, bytes.byteOffset);
  return Number(data.getBigInt64(0, true)) * 1000 + Math.ceil(Number(data.getBigInt64(8, true)) / 1000);
}

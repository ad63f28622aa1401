/**
 * setsockopt(2) and getsockopt(2) of what a Unix socket does not have. A listener's go to the TCP socket that we keep
 * for it; a connection's are judged by a TCP socket made for the purpose, and remembered.
 */
import {
  type BorrowedFd,
  constants,
  errno,
  getIntOption,
  getsockopt,
  SyscallError,
  setsockopt,
} from "../../../ffi/mod.ts";
import { type Answer, CONTINUE, failure, readLength, value, writeResult } from "../answer.ts";
import { connectedValue, isFixedOnceConnected, isOfListener } from "../connected-options.ts";
import type { Call, Context } from "../context.ts";
import type { WrappedListener } from "../listener.ts";
import type { Domain } from "../names.ts";
import { isThatQuestion } from "../nesting.ts";
import { isUsual, rehearseOption } from "../options.ts";
import { SELDOM_OPTIONS } from "../seldom-options.ts";
import { cookieOf, inspectSocket, listenerPathOf, mayConnect } from "../socket.ts";
import { type Cookie, optionKey } from "../socket-table.ts";
import { connectedTcpInfo, TCP_INFO } from "../tcp-info.ts";

const { AF_INET, AF_INET6, AF_UNIX, IPPROTO_TCP, SO_DOMAIN, SO_PROTOCOL, SO_ZEROCOPY, SOL_SOCKET } = constants;

const MAX_VALUE_BYTES = 512;

/** One of our sockets whose option is asked for. */
type Subject = {
  readonly domain: Domain;
  readonly cookie: Cookie;
  /** Set for a listening socket. */
  readonly listener: WrappedListener | undefined;
  /** For an accepted one: its listener's TCP socket, whose options it inherited, while that is there. */
  readonly parent: BorrowedFd | undefined;
};

function findSubject(context: Context, fd: BorrowedFd): Subject | undefined {
  if (getIntOption(fd, SOL_SOCKET, SO_DOMAIN) !== AF_UNIX) return undefined;
  const shape = inspectSocket(fd);
  if (shape === undefined) return undefined;
  const cookie = cookieOf(fd);
  const listener = context.table.listener(cookie);
  const path = shape.kind === "accepted" ? listenerPathOf(fd) : "";
  return { domain: shape.domain, cookie, listener, parent: context.listeners.find(path)?.tcp };
}

export function handleSetsockopt(context: Context, { tracee, args }: Call): Answer {
  const [number, level, name, address, length] = args;
  using fd = tracee.descriptor(number);
  if (fd === undefined) return CONTINUE; // EBADF from the kernel
  if (level === SOL_SOCKET && SELDOM_OPTIONS.includes(name)) {
    expectChange(context, fd);
    return noteOption(fd, (cookie) => context.table.touched.add(cookie, "common"));
  }
  const subject = findSubject(context, fd);
  if (subject === undefined) return noteOption(fd, (cookie) => addTcp(context, cookie, level, name));
  const bytes = (length | 0) < 0 ? undefined : tracee.read(address, Math.min(length, MAX_VALUE_BYTES));
  if (bytes === undefined) return failure((length | 0) < 0 ? errno.EINVAL : errno.EFAULT);
  try {
    set(context, subject, level, name, bytes);
    return value(0);
  } catch (error) {
    if (error instanceof SyscallError) return failure(error.errno);
    throw error;
  }
}

/** Connections of a listener inherit it. */
function expectChange({ table, shortcut }: Context, fd: BorrowedFd): void {
  const listener = table.listener(cookieOf(fd));
  if (listener === undefined) return;
  listener.inheritance.expectChange();
  shortcut.forgetListener(listener); // its next connection is accepted the long way
}

/** The kernel knows how to set it, on whatever it is. */
function noteOption(fd: BorrowedFd, add: (cookie: Cookie) => void): Answer {
  if (mayConnect(fd)) add(cookieOf(fd));
  return CONTINUE;
}

function addTcp({ table }: Context, cookie: Cookie, level: number, name: number): void {
  if (isUsual(level, name)) table.touched.add(cookie, "tcp");
  else table.touched.addUnusual(cookie, optionKey(level, name));
}

function set(
  { table }: Context,
  { listener, domain, cookie }: Subject,
  level: number,
  name: number,
  bytes: Uint8Array,
): void {
  if (level === SOL_SOCKET && name === SO_ZEROCOPY && bytes.some((byte) => byte !== 0)) {
    throw new SyscallError("setsockopt", errno.EOPNOTSUPP); // nobody would tell of completions
  }
  if (listener !== undefined) return setsockopt(listener.tcp, level, name, bytes);
  const stored = rehearseOption(domain, [level, name], bytes);
  if (isFixedOnceConnected(level, name)) throw new SyscallError("setsockopt", errno.EINVAL);
  if (stored !== undefined) table.setOption(cookie, optionKey(level, name), stored);
}

export function handleGetsockopt(context: Context, call: Call): Answer {
  if (isThatQuestion(call)) return value(0);
  const { tracee, args } = call;
  const [number, level, name, address, lengthAddress] = args;
  using fd = tracee.descriptor(number);
  const subject = fd && findSubject(context, fd);
  if (subject === undefined) return CONTINUE;
  const room = readLength(tracee, lengthAddress);
  if (room < 0) return failure(-room);
  try {
    const bytes = get(context, subject, level, name, room).subarray(0, room);
    const written = writeResult(tracee, { address, lengthAddress, room }, bytes);
    return written === 0 ? value(0) : failure(written);
  } catch (error) {
    if (error instanceof SyscallError) return failure(error.errno);
    throw error;
  }
}

function get(context: Context, subject: Subject, level: number, name: number, room: number): Uint8Array {
  const { domain, cookie, listener, parent } = subject;
  if (listener !== undefined) return getsockopt(listener.tcp, level, name, room);
  const stored = context.table.option(cookie, optionKey(level, name));
  if (stored !== undefined) return stored;
  if (level === SOL_SOCKET && name === SO_DOMAIN) return int(domain === 4 ? AF_INET : AF_INET6);
  if (level === SOL_SOCKET && name === SO_PROTOCOL) return int(IPPROTO_TCP);
  const template = context.template(domain).fd;
  if (level === IPPROTO_TCP && name === TCP_INFO) return connectedTcpInfo(getsockopt(template, level, name, room));
  const connected = connectedValue(domain, level, name);
  if (connected !== undefined) return int(connected);
  const inherited = isOfListener(level, name) ? undefined : parent;
  return getsockopt(inherited ?? template, level, name, room);
}

function int(number: number): Uint8Array {
  return new Uint8Array(Int32Array.of(number).buffer);
}

/** socket(7). Addresses travel as bytes; `address.ts` makes and reads them. */
import { calls } from "../calls.ts";
import {
  AF_UNIX,
  FIONREAD,
  SHUT_RDWR,
  SO_COOKIE,
  SO_ERROR,
  SO_PEERCRED,
  SO_PEERGROUPS,
  SO_PEERPIDFD,
  SO_RCVTIMEO,
  SO_SNDTIMEO,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOL_SOCKET,
  TIOCOUTQ,
} from "../constants.ts";
import { check, EAGAIN, EINPROGRESS, EINTR, ENOPROTOOPT, retry, SyscallError } from "../errno.ts";
import { type BorrowedFd, OwnedFd } from "../fd.ts";
import { allocateEach, allocateForever } from "../memory.ts";
import { UCRED } from "../structs/socket.ts";

const ADDRESS_BYTES = 128; // struct sockaddr_storage
const OPTION_BYTES = 512;
const [ADDRESS, LENGTH, PAIR, OPTION] = allocateEach(ADDRESS_BYTES, 4, 8, OPTION_BYTES);
const INT_BYTES = new Uint8Array(4);
const INT = new DataView(INT_BYTES.buffer);

/** Always close-on-exec. @param type  SOCK_STREAM …, with SOCK_NONBLOCK if wanted */
export function socket(domain: number, type: number, protocol = 0): OwnedFd {
  return new OwnedFd(check(calls.socket(domain, type | SOCK_CLOEXEC, protocol), "socket"));
}

/** Two connected Unix sockets, close-on-exec. */
export function socketpair(type: number): readonly [OwnedFd, OwnedFd] {
  check(calls.socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, PAIR.address), "socketpair");
  return [new OwnedFd(PAIR.data.getInt32(0, true)), new OwnedFd(PAIR.data.getInt32(4, true))];
}

/** @param subject  the address as a person would write it, for the error */
export function bind(fd: BorrowedFd, address: Uint8Array, subject?: string): void {
  check(calls.bind(fd.number, address, address.length), "bind", subject);
}

export function listen(fd: BorrowedFd, backlog: number): void {
  check(calls.listen(fd.number, backlog), "listen", `fd ${fd.number}`);
}

/** "connected", or "in-progress" on a non-blocking TCP socket. A full Unix backlog is EAGAIN and thrown. */
export function connect(fd: BorrowedFd, address: Uint8Array, subject?: string): "connected" | "in-progress" {
  let result: number;
  do result = calls.connect(fd.number, address, address.length);
  while (result === -EINTR);
  if (result === -EINPROGRESS) return "in-progress";
  check(result, "connect", subject);
  return "connected";
}

/** connect(2) of a blocking socket. @returns false when a signal ended the wait for room in the backlog */
export function connectUnlessInterrupted(fd: BorrowedFd, address: Uint8Array, subject?: string): boolean {
  const result = calls.connect(fd.number, address, address.length);
  if (result === -EINTR) return false;
  check(result, "connect", subject);
  return true;
}

export type Accepted = { readonly fd: OwnedFd; readonly address: Uint8Array };

/** accept4(2), the new descriptor close-on-exec. @returns null if a non-blocking listener has nobody waiting */
export function accept(fd: BorrowedFd, flags: number = SOCK_NONBLOCK): Accepted | null {
  LENGTH.data.setUint32(0, ADDRESS_BYTES, true);
  let result: number;
  do result = calls.accept4(fd.number, ADDRESS.address, LENGTH.address, flags | SOCK_CLOEXEC);
  while (result === -EINTR);
  if (result === -EAGAIN) return null;
  return { fd: new OwnedFd(check(result, "accept", `fd ${fd.number}`)), address: addressResult() };
}

function addressResult(): Uint8Array {
  return ADDRESS.bytes.slice(0, Math.min(LENGTH.data.getUint32(0, true), ADDRESS_BYTES));
}

export function getsockname(fd: BorrowedFd): Uint8Array {
  LENGTH.data.setUint32(0, ADDRESS_BYTES, true);
  check(calls.getsockname(fd.number, ADDRESS.address, LENGTH.address), "getsockname", `fd ${fd.number}`);
  return addressResult();
}

/** @throws SyscallError ENOTCONN */
export function getpeername(fd: BorrowedFd): Uint8Array {
  LENGTH.data.setUint32(0, ADDRESS_BYTES, true);
  check(calls.getpeername(fd.number, ADDRESS.address, LENGTH.address), "getpeername", `fd ${fd.number}`);
  return addressResult();
}

/** Sets an option whose value is `value` as it lies in memory. @throws SyscallError ENOPROTOOPT, EOPNOTSUPP, EINVAL */
export function setsockopt(fd: BorrowedFd, level: number, name: number, value: Uint8Array | number): void {
  let bytes = value;
  if (typeof bytes === "number") {
    INT.setInt32(0, bytes, true);
    bytes = INT_BYTES;
  }
  const result = calls.setsockopt(fd.number, level, name, bytes, bytes.length);
  check(result, "setsockopt", `level ${level} name ${name}`);
}

/** An option's value as bytes. @param lengthBytes  room for it, at most 512 */
export function getsockopt(
  fd: BorrowedFd,
  level: number,
  name: number,
  lengthBytes: number = OPTION_BYTES,
): Uint8Array {
  LENGTH.data.setUint32(0, Math.min(lengthBytes, OPTION_BYTES), true);
  const result = calls.getsockopt(fd.number, level, name, OPTION.address, LENGTH.address);
  check(result, "getsockopt", `level ${level} name ${name}`);
  return OPTION.bytes.slice(0, LENGTH.data.getUint32(0, true));
}

/** Whether an option reads back as `value`, without a copy of it; false for one that this socket lacks. */
export function hasOptionValue(fd: BorrowedFd, level: number, name: number, value: Uint8Array): boolean {
  LENGTH.data.setUint32(0, OPTION_BYTES, true);
  const result = calls.getsockopt(fd.number, level, name, OPTION.address, LENGTH.address);
  if (result !== 0 || LENGTH.data.getUint32(0, true) !== value.length) return false;
  for (let at = 0; at < value.length; at++) if (OPTION.bytes[at] !== value[at]) return false;
  return true;
}

/** An int option. */
export function getIntOption(fd: BorrowedFd, level: number, name: number): number {
  OPTION.data.setInt32(0, 0, true);
  LENGTH.data.setUint32(0, 4, true);
  const result = calls.getsockopt(fd.number, level, name, OPTION.address, LENGTH.address);
  if (result < 0) throw new SyscallError("getsockopt", -result, `level ${level} name ${name}`);
  return OPTION.data.getInt32(0, true);
}

/** SO_RCVTIMEO: how long a blocking receive waits, 0 for ever. */
export function setReceiveTimeout(fd: BorrowedFd, timeoutMs: number): void {
  setTimeout(fd, SO_RCVTIMEO, timeoutMs);
}

/** SO_SNDTIMEO: how long a blocking send waits, or a connect to a Unix socket whose backlog is full, 0 for ever. */
export function setSendTimeout(fd: BorrowedFd, timeoutMs: number): void {
  setTimeout(fd, SO_SNDTIMEO, timeoutMs);
}

function setTimeout(fd: BorrowedFd, option: number, timeoutMs: number): void {
  const microseconds = BigInt(Math.ceil(timeoutMs * 1000)); // rounded first: a million of them beside seconds is EDOM
  OPTION.data.setBigInt64(0, microseconds / 1_000_000n, true); // struct timeval
  OPTION.data.setBigInt64(8, microseconds % 1_000_000n, true);
  setsockopt(fd, SOL_SOCKET, option, OPTION.bytes.subarray(0, 16));
}

/** SO_COOKIE: names the socket itself, whichever process holds it, for as long as the machine runs. */
export function getCookie(fd: BorrowedFd): bigint {
  LENGTH.data.setUint32(0, 8, true);
  check(calls.getsockopt(fd.number, SOL_SOCKET, SO_COOKIE, OPTION.address, LENGTH.address), "getsockopt SO_COOKIE");
  return OPTION.data.getBigUint64(0, true);
}

/** Reads and clears SO_ERROR: 0, or the errno of what went wrong asynchronously. */
export function takeSocketError(fd: BorrowedFd): number {
  return getIntOption(fd, SOL_SOCKET, SO_ERROR);
}

const UNREAD = allocateForever(4);

/** How many bytes wait to be received (FIONREAD of tcp(7), which Unix stream sockets answer as well). */
export function unreadBytes(fd: BorrowedFd): number {
  check(calls.ioctl(fd.number, FIONREAD, UNREAD.address), "ioctl FIONREAD", `fd ${fd.number}`);
  return UNREAD.data.getInt32(0, true);
}

/** Memory that what we have sent takes and nobody has received (SIOCOUTQ of tcp(7), of a Unix socket with what the kernel
 *  needs for each message). */
export function unreadMemory(fd: BorrowedFd): number {
  check(calls.ioctl(fd.number, TIOCOUTQ, UNREAD.address), "ioctl SIOCOUTQ", `fd ${fd.number}`);
  return UNREAD.data.getInt32(0, true);
}

export function shutdown(fd: BorrowedFd, how: number = SHUT_RDWR): void {
  check(calls.shutdown(fd.number, how), "shutdown", `fd ${fd.number}`);
}

/** sendto(2) without an address. @returns bytes sent, null if it would block */
export function send(fd: BorrowedFd, bytes: Uint8Array, flags: number): number | null {
  const result = retry(() => calls.sendto(fd.number, bytes, bytes.length, flags, null, 0));
  return result === -EAGAIN ? null : check(result, "send", `fd ${fd.number}`);
}

/** recvfrom(2) without an address. @returns bytes received, 0 at the end, null if it would block */
export function recv(fd: BorrowedFd, into: Uint8Array, flags: number): number | null {
  const result = retry(() => calls.recvfrom(fd.number, into, into.length, flags, 0, 0));
  return result === -EAGAIN ? null : check(result, "recv", `fd ${fd.number}`);
}

/** sendto(2) a datagram to `address`. */
export function sendTo(fd: BorrowedFd, bytes: Uint8Array, flags: number, address: Uint8Array, subject?: string): void {
  check(
    retry(() => calls.sendto(fd.number, bytes, bytes.length, flags, address, address.length)),
    "sendto",
    subject,
  );
}

export type Credentials = { readonly pid: number; readonly uid: number; readonly gid: number };

/** SO_PEERCRED: who called connect(2), listen(2) or socketpair(2) at the other end (unix(7)).
 *  pid is 0 for a process outside our pid namespace. */
export function peerCredentials(fd: BorrowedFd): Credentials {
  const bytes = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, UCRED.size);
  return UCRED.read(new DataView(bytes.buffer));
}

/** SO_PEERPIDFD (Linux 6.5): a pidfd of that process, or null on an older kernel.
 *  @throws SyscallError ESRCH, EINVAL when it is already reaped (which of them depends on the kernel), ENODATA when there is
 *  none; EMFILE, ENFILE */
export function peerPidfd(fd: BorrowedFd): OwnedFd | null {
  LENGTH.data.setUint32(0, 4, true);
  const result = calls.getsockopt(fd.number, SOL_SOCKET, SO_PEERPIDFD, OPTION.address, LENGTH.address);
  if (result === 0) return new OwnedFd(OPTION.data.getInt32(0, true));
  if (result === -ENOPROTOOPT) return null;
  throw new SyscallError("getsockopt SO_PEERPIDFD", -result, `fd ${fd.number}`);
}

/** SO_PEERGROUPS (Linux 4.13): supplementary groups of that process; those beyond 128 are not told. */
export function peerGroups(fd: BorrowedFd): number[] {
  LENGTH.data.setUint32(0, OPTION_BYTES, true);
  const result = calls.getsockopt(fd.number, SOL_SOCKET, SO_PEERGROUPS, OPTION.address, LENGTH.address);
  if (result !== 0) return []; // ENODATA: a socket without a peer's groups; ERANGE: more than fit
  const nGroups = LENGTH.data.getUint32(0, true) / 4;
  return Array.from({ length: nGroups }, (_, index) => OPTION.data.getUint32(index * 4, true));
}

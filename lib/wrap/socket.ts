/** A socket of the program as the kernel describes it, through a duplicate that we hold for a moment. */
import {
  addressFamily,
  type BorrowedFd,
  constants,
  getCookie,
  getIntOption,
  getpeername,
  getsockname,
  inetAddress,
  readInetAddress,
  readUnixAddress,
  SyscallError,
} from "../../ffi/mod.ts";
import { type Endpoint, mapHost, unmapHost } from "./host.ts";
import { type Domain, type ListenerName, parseListenerPath, type Shape, shapeOf } from "./names.ts";
import type { Cookie } from "./socket-table.ts";

const { AF_INET, AF_INET6, AF_UNIX, IPPROTO_MPTCP, IPPROTO_TCP, SOL_SOCKET } = constants;

const TCP_INFO = 11; // linux/tcp.h
const TCP_CLOSE = 7; // net/tcp_states.h: not listening, not connecting, not connected

export function cookieOf(fd: BorrowedFd): Cookie {
  return getCookie(fd);
}

/** The domain of a TCP (or multipath TCP) socket; undefined for every other kind. */
export function tcpDomain(fd: BorrowedFd): Domain | undefined {
  const family = getIntOption(fd, SOL_SOCKET, constants.SO_DOMAIN);
  if (family !== AF_INET && family !== AF_INET6) return undefined;
  if (getIntOption(fd, SOL_SOCKET, constants.SO_TYPE) !== constants.SOCK_STREAM) return undefined;
  const protocol = getIntOption(fd, SOL_SOCKET, constants.SO_PROTOCOL);
  if (protocol !== IPPROTO_TCP && protocol !== IPPROTO_MPTCP) return undefined;
  return family === AF_INET ? 4 : 6;
}

/** A socket that is about to connect. */
export type TcpSocket = { readonly domain: Domain; readonly isMultipath: boolean; readonly bound: Endpoint };

/** undefined for a socket of another kind; in fewer calls than tcpDomain(), which raw sockets do not deceive. */
export function tcpSocket(fd: BorrowedFd): TcpSocket | undefined {
  const protocol = getIntOption(fd, SOL_SOCKET, constants.SO_PROTOCOL);
  if (protocol !== IPPROTO_TCP && protocol !== IPPROTO_MPTCP) return undefined;
  const address = readInetAddress(getsockname(fd));
  if (address === undefined) return undefined;
  const bound = { host: unmapHost(address.host), port: address.port };
  return { domain: address.family === AF_INET ? 4 : 6, isMultipath: protocol === IPPROTO_MPTCP, bound };
}

/** Whether a TCP socket has done nothing yet but perhaps be bound. */
export function isFresh(fd: BorrowedFd): boolean {
  return (getIntOption(fd, IPPROTO_TCP, TCP_INFO) & 0xff) === TCP_CLOSE; // tcpi_state, its first byte
}

/** Whether options of a socket have to be remembered for its connect(): those of one that is connected need not, unless it
 *  is disconnected first. */
export function mayConnect(fd: BorrowedFd): boolean {
  return tcpDomain(fd) !== undefined && peerName(fd) === undefined;
}

export function familyOf(domain: Domain): typeof constants.AF_INET | typeof constants.AF_INET6 {
  return domain === 4 ? AF_INET : AF_INET6;
}

/** Where a TCP socket is bound, an IPv4-mapped address as IPv4; port 0 for nowhere. */
export function localEndpoint(fd: BorrowedFd): Endpoint {
  const address = readInetAddress(getsockname(fd));
  if (address === undefined) throw new TypeError("Cannot read the address of a socket that is not IPv4 or IPv6");
  return { host: unmapHost(address.host), port: address.port };
}

/** A sockaddr_in or sockaddr_in6, as a TCP socket of that domain would give it. */
export function socketAddress(domain: Domain, { host, port }: Endpoint): Uint8Array<ArrayBuffer> {
  return inetAddress({ family: familyOf(domain), host: mapHost(host, domain === 6), port });
}

/** A port for a peer that has none: always the same one for the same socket, in the range of ephemeral ports. */
export function strangerPort(cookie: Cookie): number {
  return 32768 + Number(cookie % 28232n);
}

/** Listeners of this tree whose addresses say nothing: a rule gave them a name, or systemd. */
const aliases: Map<string, ListenerName> = new Map();

export function addAlias(address: string, name: ListenerName): void {
  if (parseListenerPath(address) === undefined) aliases.set(address, name);
}

export function removeAlias(address: string): void {
  aliases.delete(address);
}

function listenerOf(address: string): ListenerName | undefined {
  return parseListenerPath(address) ?? aliases.get(address);
}

/** What the names of clients say, which is the same each time: programs ask again and again. */
const clients: Map<string, Shape> = new Map();
const MAX_CLIENTS = 1024;

function remember(name: string, shape: Shape): void {
  if (clients.size >= MAX_CLIENTS) clients.clear();
  clients.set(name, shape);
}

/** What one of our Unix sockets stands for; undefined for a socket that is none of ours. */
export function inspectSocket(fd: BorrowedFd): Shape | undefined {
  const own = getsockname(fd);
  if (addressFamily(own) !== AF_UNIX) return undefined;
  const name = readUnixAddress(own) ?? "";
  // Most Unix sockets have no name or an ordinary path, and a client's own name says all: these need no second call.
  const known = clients.get(name);
  if (known !== undefined) return known;
  const alone = shapeOf(name, undefined, () => 0, listenerOf);
  if (alone?.kind === "client") remember(name, alone);
  if (alone === undefined || alone.kind === "client") return alone;
  return shapeOf(name, peerName(fd), () => strangerPort(cookieOf(fd)), listenerOf);
}

function peerName(fd: BorrowedFd): string | undefined {
  try {
    return readUnixAddress(getpeername(fd)) ?? "";
  } catch (error) {
    if (error instanceof SyscallError) return undefined; // ENOTCONN: a listener
    throw error;
  }
}

/** The path in an accepted socket's own address, which is its listener's; "" for a nameless socket. */
export function listenerPathOf(fd: BorrowedFd): string {
  return readUnixAddress(getsockname(fd)) ?? "";
}

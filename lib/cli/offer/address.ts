/** Words of a command line as listening sockets: HOST:PORT, or a path. */
import { existsSync, lstatSync, unlinkSync } from "node:fs";
import { isIP } from "node:net";
import {
  bind,
  connect,
  constants,
  errno,
  type InetAddress,
  inetAddress,
  listen,
  type OwnedFd,
  SyscallError,
  setsockopt,
  socket,
  unixAddress,
} from "../../../ffi/mod.ts";
import { SUN_PATH_MAX_BYTES } from "../../transport/listen.ts";
import { UsageError } from "../usage-error.ts";

const BACKLOG = 4096;

/** "127.0.0.1:80", "[::1]:80", "localhost:80", "*:80". @throws UsageError */
export function parseHostPort(text: string): InetAddress {
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2] ?? "";
  const port = Number(match?.[3]);
  const address = host === "localhost" ? "127.0.0.1" : host === "*" ? "0.0.0.0" : host;
  if (isIP(address) === 0 || !(port <= 65535))
    throw new UsageError(`Cannot use --tcp "${text}": ADDRESS:PORT is wanted, as in 127.0.0.1:8080 or [::1]:8080`);
  const isV6 = isIP(address) === 6;
  return {
    family: isV6 ? constants.AF_INET6 : constants.AF_INET,
    host: isV6 ? v6Bytes(address) : v4Bytes(address),
    port,
  };
}

function v4Bytes(text: string): Uint8Array {
  return new Uint8Array(text.split(".").map(Number));
}

/** @param text  valid, without a scope */
function v6Bytes(text: string): Uint8Array {
  const dotted = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(text);
  const [a = 0, b = 0, c = 0, d = 0] = dotted === null ? [] : v4Bytes(dotted[2] ?? "");
  const hex = dotted === null ? text : `${dotted[1]}${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
  const [head = "", tail] = hex.split("::");
  const groups = (part: string): number[] =>
    part === "" ? [] : part.split(":").map((group) => Number.parseInt(group, 16));
  const before = groups(head);
  const after = groups(tail ?? "");
  const zeros = Array.from({ length: 8 - before.length - after.length }, () => 0);
  return new Uint8Array([...before, ...zeros, ...after].flatMap((group) => [group >> 8, group & 0xff]));
}

/** A listening TCP socket, non-blocking. @throws SyscallError EADDRINUSE, EACCES, EADDRNOTAVAIL */
export function listenTcp(address: InetAddress, subject: string): OwnedFd {
  const fd = socket(address.family, constants.SOCK_STREAM | constants.SOCK_NONBLOCK);
  try {
    setsockopt(fd, constants.SOL_SOCKET, constants.SO_REUSEADDR, 1);
    bind(fd, inetAddress(address), subject);
    listen(fd, BACKLOG);
    return fd;
  } catch (error) {
    fd.close();
    throw error;
  }
}

/** A listening Unix socket, non-blocking, in the place of one that nobody listens on.
 *  @throws SyscallError, UsageError for a path that is too long */
export function listenUnix(path: string): OwnedFd {
  const { length } = new TextEncoder().encode(path);
  if (length > SUN_PATH_MAX_BYTES)
    throw new UsageError(`Cannot use path "${path}": it is ${length} bytes long, ${SUN_PATH_MAX_BYTES} is the most`);
  try {
    return bindUnix(path);
  } catch (error) {
    if (!(error instanceof SyscallError) || error.errno !== errno.EADDRINUSE || !isAbandoned(path)) throw error;
    removeUnix(path); // whoever made it was killed
    return bindUnix(path);
  }
}

function isAbandoned(path: string): boolean {
  using probe = socket(constants.AF_UNIX, constants.SOCK_STREAM | constants.SOCK_NONBLOCK);
  try {
    connect(probe, unixAddress(path), path);
    return false;
  } catch (error) {
    if (error instanceof SyscallError) return error.errno === errno.ECONNREFUSED;
    throw error;
  }
}

function bindUnix(path: string): OwnedFd {
  const fd = socket(constants.AF_UNIX, constants.SOCK_STREAM | constants.SOCK_NONBLOCK);
  try {
    bind(fd, unixAddress(path), path);
    listen(fd, BACKLOG);
    return fd;
  } catch (error) {
    fd.close();
    throw error;
  }
}

/** Takes the socket's file away, and nothing else that may be there by now. */
export function removeUnix(path: string): void {
  if (!path.startsWith("@") && existsSync(path) && lstatSync(path).isSocket()) unlinkSync(path);
}

/** Words of a command line as listening sockets: HOST:PORT, or a path. */
import { existsSync, lstatSync, unlinkSync } from "node:fs";
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
import { parseHostPort } from "../../util/ip-address.ts";
import { UsageError } from "../usage-error.ts";
import { tcpBindFailure, unixBindFailure } from "./bind-failure.ts";

const BACKLOG = 4096;

/** "127.0.0.1:80", "[::1]:80", "localhost:80", "*:80". @throws UsageError */
export function parseTcp(text: string): InetAddress {
  const found = parseHostPort(text.replace(/^localhost:/, "127.0.0.1:").replace(/^\*:/, "0.0.0.0:"));
  if (found === undefined)
    throw new UsageError(`Cannot use --tcp "${text}": ADDRESS:PORT is wanted, as in 127.0.0.1:8080 or [::1]:8080`);
  return { family: found.host.length === 16 ? constants.AF_INET6 : constants.AF_INET, ...found };
}

/** A listening TCP socket, non-blocking. @param place  the address as it was given @throws CommandFailure */
export function listenTcp(address: InetAddress, place: string): OwnedFd {
  const fd = socket(address.family, constants.SOCK_STREAM | constants.SOCK_NONBLOCK);
  try {
    setsockopt(fd, constants.SOL_SOCKET, constants.SO_REUSEADDR, 1);
    bind(fd, inetAddress(address), place);
    listen(fd, BACKLOG);
    return fd;
  } catch (error) {
    fd.close();
    throw isOfBind(error) ? tcpBindFailure(place, error) : error;
  }
}

/** A listening Unix socket, non-blocking, in the place of one that nobody listens on.
 *  @throws CommandFailure, UsageError for a path that is too long */
export function listenUnix(path: string): OwnedFd {
  const { length } = new TextEncoder().encode(path);
  if (length > SUN_PATH_MAX_BYTES) {
    const why = `it is ${length} bytes long, ${SUN_PATH_MAX_BYTES} is the most; give a shorter one`;
    throw new UsageError(`Cannot use path "${path}": ${why}`);
  }
  try {
    return bindInPlace(path);
  } catch (error) {
    throw isOfBind(error) ? unixBindFailure(path, error) : error;
  }
}

function isOfBind(error: unknown): error is SyscallError {
  return error instanceof SyscallError && error.syscall === "bind";
}

function bindInPlace(path: string): OwnedFd {
  try {
    return bindUnix(path);
  } catch (error) {
    if (!isOfBind(error) || error.errno !== errno.EADDRINUSE || !isAbandoned(path)) throw error;
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

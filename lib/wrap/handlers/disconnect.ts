/** connect(2) to AF_UNSPEC: what was handed off becomes an unconnected TCP socket again, under the same number. */
import {
  bind,
  constants,
  errno,
  listen,
  type OwnedFd,
  SyscallError,
  setsockopt,
  shutdown,
  socket,
} from "../../../ffi/mod.ts";
import { type Answer, CONTINUE, DONE, value } from "../answer.ts";
import type { Call, Context } from "../context.ts";
import { type Endpoint, isUnspecified } from "../host.ts";
import type { Domain } from "../names.ts";
import { asItIsSet } from "../options.ts";
import { cookieOf, familyOf, inspectSocket, localEndpoint, socketAddress, tcpDomain } from "../socket.ts";
import { keyOption } from "../socket-table.ts";
import { swapSocket } from "../swap.ts";

export function disconnect(context: Context, call: Call, fd: OwnedFd): Answer {
  const shape = inspectSocket(fd);
  if (shape === undefined) return disconnectTcp(context, fd);
  context.reservedPorts.release(cookieOf(fd)); // for the fresh socket
  using tcp = freshSocket(context, fd, shape.domain);
  return swapSocket(context, call, fd, tcp) ? value(0) : DONE;
}

/** A TCP socket knows how to. It keeps its options, which nobody has noted while it was connected. */
function disconnectTcp({ table }: Context, fd: OwnedFd): Answer {
  if (tcpDomain(fd) !== undefined) table.touched.add(cookieOf(fd), "tcp");
  return CONTINUE;
}

/**
 * What the kernel leaves of a local address when the socket is disconnected: the parts that the program chose. Only the
 * kernel knows which those are, so it is made to do it, by way of a moment as a listener.
 * @param tcp  bound, in nobody's use any more
 */
export function whatWasChosen(tcp: OwnedFd, domain: Domain): Endpoint {
  const bound = localEndpoint(tcp);
  try {
    listen(tcp, 1);
    shutdown(tcp, constants.SHUT_RD);
    const { host } = localEndpoint(tcp);
    return { host, port: hasPort(tcp, domain, host) ? bound.port : 0 };
  } catch (error) {
    if (error instanceof SyscallError) return bound; // somebody listens on it
    throw error;
  }
}

/** getsockname(2) shows a port that was given up, but bind(2) knows. */
function hasPort(tcp: OwnedFd, domain: Domain, host: Endpoint["host"]): boolean {
  try {
    bind(tcp, socketAddress(domain, { host, port: 0 }));
    return false;
  } catch (error) {
    if (error instanceof SyscallError) return error.errno === errno.EINVAL;
    throw error;
  }
}

/** Where it had been bound, as far as that is free. */
function bindAsBefore(fresh: OwnedFd, domain: Domain, chosen: Endpoint | undefined): void {
  if (chosen === undefined || (chosen.port === 0 && isUnspecified(chosen.host))) return;
  const { IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT } = constants;
  try {
    if (chosen.port === 0) setsockopt(fresh, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
    bind(fresh, socketAddress(domain, chosen));
    if (chosen.port === 0) setsockopt(fresh, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 0);
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error; // somebody has taken the port
  }
}

/** With the options that the program had set. */
function freshSocket({ table, template }: Context, old: OwnedFd, domain: Domain): OwnedFd {
  const fresh = socket(familyOf(domain), constants.SOCK_STREAM);
  const remembered = [...table.options(cookieOf(old))].map(([key, value]) => ({ option: keyOption(key), value }));
  const kept = template(domain)
    .commonOptions(old)
    .filter(({ option: [, name] }) => name !== constants.SO_PEEK_OFF);
  for (const { option, value } of [...kept, ...remembered]) {
    try {
      setsockopt(fresh, option[0], option[1], asItIsSet(option, value));
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error; // one that a fresh socket does not take
    }
  }
  table.touched.add(cookieOf(fresh), "tcp");
  for (const key of table.options(cookieOf(old)).keys()) table.touched.addUnusual(cookieOf(fresh), key);
  bindAsBefore(fresh, domain, table.bound(cookieOf(old)));
  return fresh;
}

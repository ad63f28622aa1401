/** listen(2): here a TCP socket of the program becomes a Unix listener, under the same number. */
import {
  type BorrowedFd,
  bind,
  constants,
  errno,
  getIntOption,
  inetAddress,
  listen,
  type OwnedFd,
  poll,
  SyscallError,
  setsockopt,
  socket,
} from "../../../ffi/mod.ts";
import { ShmlinkError } from "../../errors.ts";
import { type Answer, CONTINUE, DONE, failure, value } from "../answer.ts";
import type { Call, Context } from "../context.ts";
import { type Endpoint, formatHost } from "../host.ts";
import { LONGEST_BACKLOG } from "../listeners.ts";
import type { Domain, Shape } from "../names.ts";
import { cookieOf, familyOf, inspectSocket, isFresh, localEndpoint, socketAddress, tcpDomain } from "../socket.ts";
import { swapSocket } from "../swap.ts";
import { processOf } from "../tracee.ts";

const { O_NONBLOCK } = constants;

export function handleListen(context: Context, call: Call): Answer {
  using fd = call.tracee.descriptor(call.args[0]);
  if (fd === undefined) return CONTINUE; // EBADF from the kernel
  const domain = tcpDomain(fd);
  if (domain !== undefined) return listenOnTcp(context, call, fd, domain);
  const shape = inspectSocket(fd);
  if (shape?.kind !== "listener") return CONTINUE;
  // Again on one that was handed off (nginx does): its backlog is the longest already.
  return isShutDown(fd) ? listenAgain(context, call, fd, shape) : value(0);
}

function listenOnTcp(context: Context, call: Call, fd: OwnedFd, domain: Domain): Answer {
  // A listener of before, or one whose other duplicate was handed off: both ways serve the same TCP queue.
  if (!isFresh(fd) || context.table.listener(cookieOf(fd)) !== undefined) return CONTINUE;
  const group = findGroup(context, call, fd, domain);
  if (group !== undefined) return group;
  using tcp = fd.dup();
  return prepareTcp(context, tcp, domain) ?? handOff(context, call, tcp, domain, fd);
}

/** The real socket listens too, or only reserves its port. Both choose a port if the program has not.
 *  @returns an answer where that fails, as the program would have seen it */
function prepareTcp({ exposeTcp }: Context, fd: OwnedFd, domain: Domain): Answer | undefined {
  try {
    if (exposeTcp) listen(fd, LONGEST_BACKLOG);
    else if (localEndpoint(fd).port === 0) {
      bind(fd, inetAddress({ family: familyOf(domain), host: new Uint8Array(domain === 4 ? 4 : 16), port: 0 }));
    }
    return undefined;
  } catch (error) {
    if (error instanceof SyscallError) return failure(error.errno);
    throw error;
  }
}

/** @param tcp  to listen on; taken @param old  what the program holds, lent */
function handOff(context: Context, call: Call, tcp: OwnedFd, domain: Domain, old: BorrowedFd): Answer {
  const created = create(context, call, tcp, domain);
  if (created === undefined) return CONTINUE;
  using unix = created.unix;
  if (swapSocket(context, call, old, unix)) {
    context.listeners.rememberHolder(created.listener, processOf(call.tracee.thread), call.args[0] | 0);
    return value(0);
  }
  context.listeners.remove(created.listener);
  return DONE; // a signal came first: the program calls again
}

/** SO_REUSEPORT lets many sockets listen on one address: those of one tree share the listener that was there first,
 *  its queue included, and end it with the last of them. */
function findGroup(context: Context, call: Call, fd: OwnedFd, domain: Domain): Answer | undefined {
  if (getIntOption(fd, constants.SOL_SOCKET, constants.SO_REUSEPORT) === 0) return undefined;
  const listener = context.listeners.findNamed({ domain, local: localEndpoint(fd) });
  using unix = listener && context.listeners.borrowUnix(listener);
  if (unix === undefined) return undefined;
  return swapSocket(context, call, fd, unix) ? value(0) : DONE;
}

/** shutdown(SHUT_RD) ends a Unix listener for good, a TCP one until the next listen(2): so it gets a new one. */
function listenAgain(context: Context, call: Call, fd: OwnedFd, { domain, local }: Shape): Answer {
  const listener = context.table.listener(cookieOf(fd));
  using tcp = listener?.tcp.dup() ?? bindAgain(domain, local);
  if (tcp === undefined) return failure(errno.EADDRINUSE);
  if (listener !== undefined) context.listeners.remove(listener);
  return prepareTcp(context, tcp, domain) ?? handOff(context, call, tcp, domain, fd);
}

function isShutDown(fd: OwnedFd): boolean {
  const [events = 0] = poll([{ fd, events: constants.EPOLLRDHUP }], 0);
  return (events & constants.EPOLLRDHUP) !== 0;
}

function bindAgain(domain: Domain, local: Endpoint): OwnedFd | undefined {
  const fd = socket(familyOf(domain), constants.SOCK_STREAM);
  try {
    setsockopt(fd, constants.SOL_SOCKET, constants.SO_REUSEADDR, 1);
    bind(fd, socketAddress(domain, local));
    return fd;
  } catch (error) {
    fd.close();
    if (error instanceof SyscallError) return undefined;
    throw error;
  }
}

function create(context: Context, { tracee, args }: Call, tcp: OwnedFd, domain: Domain) {
  const local = localEndpoint(tcp);
  const flags = tracee.descriptorFlags(args[0]);
  const v6only = domain === 6 && getIntOption(tcp, constants.IPPROTO_IPV6, constants.IPV6_V6ONLY) !== 0;
  try {
    const { listener, unix } = context.listeners.create({
      name: { domain, local },
      tcp: tcp.dup(),
      options: context.template(domain).commonOptions(tcp),
      nonBlocking: (flags & O_NONBLOCK) !== 0,
      v6only,
      pid: processOf(tracee.thread),
    });
    return { listener, unix };
  } catch (error) {
    if (!(error instanceof SyscallError || error instanceof ShmlinkError || error instanceof RangeError)) throw error;
    context.logger.warn(`Left tcp:${formatHost(local.host)}:${local.port} to plain TCP: ${error.message}`);
    return undefined;
  }
}

/** listen(2): here a TCP socket of the program becomes a Unix listener, under the same number. */
import {
  addFd,
  bind,
  constants,
  getIntOption,
  inetAddress,
  listen,
  type OwnedFd,
  SyscallError,
} from "../../../ffi/mod.ts";
import { ShmlinkError } from "../../errors.ts";
import { type Answer, CONTINUE, DONE, failure, value } from "../answer.ts";
import type { Call, Context } from "../context.ts";
import { isWatchedByEpoll } from "../epoll-scan.ts";
import { formatHost } from "../host.ts";
import { LONGEST_BACKLOG } from "../listeners.ts";
import type { Domain } from "../names.ts";
import { cookieOf, familyOf, inspectSocket, isFresh, localEndpoint, tcpDomain } from "../socket.ts";
import { processOf } from "../tracee.ts";

const { O_CLOEXEC, O_NONBLOCK } = constants;

export function handleListen(context: Context, call: Call): Answer {
  const fd = call.tracee.descriptor(call.args[0]);
  if (fd === undefined) return CONTINUE; // EBADF from the kernel
  const domain = tcpDomain(fd);
  if (domain !== undefined) return listenOnTcp(context, call, fd, domain);
  using unix = fd;
  // Again on one that was handed off (nginx does): its backlog is the longest already.
  return inspectSocket(unix)?.kind === "listener" ? value(0) : CONTINUE;
}

function listenOnTcp(context: Context, call: Call, fd: OwnedFd, domain: Domain): Answer {
  const obstacle = findObstacle(context, call, fd);
  if (obstacle !== undefined) {
    fd.close();
    if (obstacle !== "") context.logger.warn(`Left a listener to plain TCP: ${obstacle}`);
    return CONTINUE;
  }
  try {
    prepareTcp(context, fd, domain);
  } catch (error) {
    fd.close();
    if (error instanceof SyscallError) return failure(error.errno); // as the program would have seen it
    throw error;
  }
  return handOff(context, call, fd, domain);
}

/** Why a socket must stay what it is; "" where there is nothing to say about it. */
function findObstacle({ table }: Context, { tracee, args }: Call, fd: OwnedFd): string | undefined {
  // A listener of before, or one whose other duplicate was handed off: both ways serve the same TCP queue.
  if (!isFresh(fd) || table.listener(cookieOf(fd)) !== undefined) return "";
  if (isWatchedByEpoll(tracee.thread, args[0])) return "the socket is in an epoll set already";
  return undefined;
}

/** The real socket listens too, or only reserves its port. Both choose a port if the program has not. */
function prepareTcp({ exposeTcp }: Context, fd: OwnedFd, domain: Domain): void {
  if (exposeTcp) listen(fd, LONGEST_BACKLOG);
  else if (localEndpoint(fd).port === 0) {
    bind(fd, inetAddress({ family: familyOf(domain), host: new Uint8Array(domain === 4 ? 4 : 16), port: 0 }));
  }
}

function handOff(context: Context, call: Call, tcp: OwnedFd, domain: Domain): Answer {
  const created = create(context, call, tcp, domain);
  if (created === undefined) return CONTINUE;
  const { listener, flags } = created;
  using unix = created.unix;
  const installed = addFd(
    context.notify,
    call.id,
    unix,
    { kind: "replace", number: call.args[0] | 0 },
    flags & O_CLOEXEC,
  );
  if (installed === undefined) {
    context.listeners.remove(listener);
    return DONE; // a signal came first: the program calls again
  }
  return value(0);
}

function create(context: Context, { tracee, args }: Call, tcp: OwnedFd, domain: Domain) {
  const local = localEndpoint(tcp);
  const flags = tracee.descriptorFlags(args[0]);
  const v6only = domain === 6 && getIntOption(tcp, constants.IPPROTO_IPV6, constants.IPV6_V6ONLY) !== 0;
  try {
    const { listener, unix } = context.listeners.create({
      name: { domain, local },
      tcp,
      options: context.template(domain).commonOptions(tcp),
      nonBlocking: (flags & O_NONBLOCK) !== 0,
      v6only,
      pid: processOf(tracee.thread),
    });
    return { listener, unix, flags };
  } catch (error) {
    if (!(error instanceof SyscallError || error instanceof ShmlinkError || error instanceof RangeError)) throw error;
    context.logger.warn(`Left tcp:${formatHost(local.host)}:${local.port} to plain TCP: ${error.message}`);
    return undefined;
  }
}

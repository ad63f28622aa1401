/**
 * connect(2): a TCP socket on its way to a registered listener becomes a connected Unix socket, under the same number.
 * Whatever stands in the way, the untouched socket goes on over TCP, and the reason is recorded.
 */
import { addressFamily, constants, errno, getIntOption, type OwnedFd, readInetAddress } from "../../../ffi/mod.ts";
import { type Answer, CONTINUE, DONE, failure, value } from "../answer.ts";
import { Attempt } from "../connecting/attempt.ts";
import type { FirstData } from "../connecting/first-data.ts";
import { makePlan } from "../connecting/plan.ts";
import type { Call, Context } from "../context.ts";
import { type Endpoint, type Host, isBroadcast, isUnspecified, loopbackFor, unmapHost } from "../host.ts";
import { cookieOf, familyOf, inspectSocket, isFresh, type TcpSocket, tcpSocket } from "../socket.ts";
import { disconnect } from "./disconnect.ts";

const { AF_INET, AF_UNSPEC, IPPROTO_IPV6, IPV6_V6ONLY } = constants;
const { EISCONN } = errno;

const SOCKADDR_IN_BYTES = 16;
const SOCKADDR_IN6_LEAST_BYTES = 24; // without a scope: SIN6_LEN_RFC2133 of the kernel
const MAX_ADDRESS_BYTES = 128; // struct sockaddr_storage

/** @param call  with the arguments of connect(2) @param first  to be sent at once; its length is the answer then */
export function handleConnect(context: Context, call: Call, first?: FirstData): Answer {
  const bytes = readSocketAddress(call);
  let fd = bytes && call.tracee.descriptor(call.args[0]); // and confirms what was read
  if (bytes === undefined || fd === undefined) return CONTINUE; // EBADF and so on from the kernel
  try {
    if (addressFamily(bytes) === AF_UNSPEC) return first === undefined ? disconnect(context, call, fd) : CONTINUE;
    const destination = readInetAddress(bytes);
    if (destination === undefined) return CONTINUE;
    const socket = tcpSocket(fd);
    if (socket === undefined) return connectAgain(context, call, fd, first);
    const isOtherFamily = addressFamily(bytes) !== familyOf(socket.domain);
    if (isOtherFamily || (socket.domain === 6 && bytes.length < SOCKADDR_IN6_LEAST_BYTES)) return CONTINUE; // an error
    // EISCONN, EALREADY, or the news of a connect over TCP; without a port it has done nothing yet.
    if (socket.bound.port !== 0 && !isFresh(fd)) return answerOwed(context, call, fd, first) ?? CONTINUE;
    const target = { host: meantBy(unmapHost(destination.host), socket), port: destination.port };
    if (!canReach(fd, socket, target)) return CONTINUE; // an error, too
    const plan = makePlan(context, call, fd, socket, target);
    if (!("path" in plan)) return plan;
    const attempt = new Attempt(context, call, fd, plan, first);
    fd = undefined; // an attempt may go on after this call
    return attempt.begin();
  } finally {
    fd?.close();
  }
}

/** An unspecified address is this machine: IPv4's the address that the socket is bound to, if it is. */
function meantBy(host: Host, { bound }: TcpSocket): Host {
  if (!isUnspecified(host)) return host;
  if (host.length === 4 && bound.host.length === 4 && !isUnspecified(bound.host)) return bound.host;
  return loopbackFor(host.length === 4 ? host : bound.host); // who is bound to a mapped address reaches IPv4 by :: too
}

/** Whether TCP could go there: IPv6 alone reaches no mapped address, and a socket that is bound none of the other family. */
function canReach(fd: OwnedFd, { domain, bound }: TcpSocket, { host }: Endpoint): boolean {
  if (isBroadcast(host)) return false;
  if (!isUnspecified(bound.host) && bound.host.length !== host.length) return false;
  return domain === 4 || host.length === 16 || getIntOption(fd, IPPROTO_IPV6, IPV6_V6ONLY) === 0;
}

function readSocketAddress({ tracee, args }: Call): Uint8Array | undefined {
  const length = args[2];
  if (length < 2 || length > MAX_ADDRESS_BYTES) return undefined; // EINVAL from the kernel
  const bytes = tracee.peek(args[1], length);
  const isTooShort = length < SOCKADDR_IN_BYTES && bytes !== undefined && addressFamily(bytes) === AF_INET;
  return isTooShort ? undefined : bytes; // EINVAL from the kernel
}

/** On a socket that was swapped in: the same call once more after a signal came between swap and answer, or a second one. */
function connectAgain(context: Context, call: Call, fd: OwnedFd, first: FirstData | undefined): Answer {
  return inspectSocket(fd) === undefined ? CONTINUE : (answerOwed(context, call, fd, first) ?? failure(EISCONN));
}

function answerOwed(
  { table, answer }: Context,
  call: Call,
  fd: OwnedFd,
  first: FirstData | undefined,
): Answer | undefined {
  const cookie = cookieOf(fd);
  if (!table.owesAcknowledgement(cookie)) return undefined;
  if (answer(call, value(first?.length ?? 0))) table.acknowledge(cookie); // else another signal came: it is owed still
  return DONE;
}

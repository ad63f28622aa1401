/** A connection to a registered listener that goes over TCP instead: the untouched socket, and the recorded reason. */
import { connect, constants, errno, getsockopt, type OwnedFd, SyscallError, setsockopt } from "../../../ffi/mod.ts";
import { FALLBACK, type FallbackReason } from "../../util/fallback-reason.ts";
import { type Answer, CONTINUE, failure } from "../answer.ts";
import { formatHost, hostPort } from "../host.ts";
import { cookieOf, socketAddress } from "../socket.ts";
import type { Connecting } from "./connecting.ts";
import { note } from "./plan.ts";

const { SO_SNDTIMEO, SOL_SOCKET } = constants;

const ONE_MICROSECOND = new Uint8Array(BigInt64Array.of(0n, 1n).buffer);

/** Why a connection to a registered listener goes over TCP. */
export class Fallback extends Error {
  override readonly name = "Fallback";

  constructor(reason: FallbackReason) {
    super(reason);
  }
}

/** The recorded reason for plain TCP; an error where a rule forbids that. */
export function fallBack({ context, call, plan }: Connecting, error: Error): Answer {
  const { registry, logger } = context;
  const { target, rule } = plan;
  const [host, port, reason] = [formatHost(target.host), target.port, error.message];
  const isRefused = rule?.require === true;
  note(context, call, target, { outcome: isRefused ? "refused" : "tcp", reason, rule });
  if (isRefused) return failure(asTcp(error));
  logger.info(`Connected to tcp:${hostPort(host, port)} over TCP: ${reason}`);
  registry.reportFallback(host, port, reason);
  return CONTINUE;
}

/** A signal has interrupted the call. TCP goes on connecting then, and the program may wait for that (connect(2),
 *  EINTR) or call again. */
export function goOnByTcp({ context, call, plan, tcp }: Connecting): void {
  const { socket, target, rule } = plan;
  note(context, call, target, { outcome: "tcp", reason: FALLBACK.interrupted, rule });
  context.registry.reportFallback(formatHost(target.host), target.port, FALLBACK.interrupted);
  try {
    const isUp = connectBriefly(tcp, socketAddress(socket.domain, target));
    if (isUp) context.table.expectAcknowledgement(cookieOf(tcp));
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error; // refused: the program learns so when it calls again
  }
}

/** connect(2) on a socket of the program, whose flags are not ours to change, without a wait. @returns whether it is up */
function connectBriefly(fd: OwnedFd, address: Uint8Array): boolean {
  const patience = getsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, 16); // struct timeval
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, ONE_MICROSECOND);
  try {
    return connect(fd, address) === "connected";
  } finally {
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, patience);
  }
}

/** What TCP would have said. */
function asTcp(error: Error): number {
  if (!(error instanceof SyscallError)) return errno.ECONNREFUSED;
  if (error.errno === errno.EAGAIN) return errno.ETIMEDOUT;
  return error.errno === errno.EACCES ? errno.EACCES : errno.ECONNREFUSED;
}

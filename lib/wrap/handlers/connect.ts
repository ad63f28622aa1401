/**
 * connect(2): a TCP socket on its way to a registered listener becomes a connected Unix socket, under the same number.
 * Whatever stands in the way, the untouched socket goes on over TCP, and the reason is recorded.
 */
import {
  addressFamily,
  bind,
  connect,
  constants,
  errno,
  type InetAddress,
  type OwnedFd,
  readInetAddress,
  SyscallError,
  setNonBlocking,
  socket,
  unixAddress,
} from "../../../ffi/mod.ts";
import { type Answer, CONTINUE, DONE, failure, LATER, value } from "../answer.ts";
import type { Call, Context } from "../context.ts";
import { type Endpoint, formatHost, isUnspecified, loopbackFor, unmapHost } from "../host.ts";
import { connectionName, type Domain } from "../names.ts";
import { dressUnixSocket } from "../options.ts";
import { nextPort, sourceFor } from "../route.ts";
import { cookieOf, inspectSocket, isFresh, localEndpoint, tcpDomain } from "../socket.ts";
import { swapSocket } from "../swap.ts";
import { CallGone } from "../tracee.ts";
import { disconnect } from "./disconnect.ts";

const { AF_UNIX, AF_UNSPEC, O_NONBLOCK, SOCK_NONBLOCK, SOCK_STREAM } = constants;
const { EADDRINUSE, EAGAIN, EISCONN } = errno;

const MAX_ADDRESS_BYTES = 128; // struct sockaddr_storage

export function handleConnect(context: Context, call: Call): Answer {
  const bytes = readSocketAddress(call);
  const fd = bytes && call.tracee.descriptor(call.args[0]);
  if (bytes === undefined || fd === undefined) return CONTINUE; // EBADF and so on from the kernel
  try {
    if (addressFamily(bytes) === AF_UNSPEC) return disconnect(context, call, fd);
    const destination = readInetAddress(bytes);
    if (destination === undefined) return CONTINUE;
    const domain = tcpDomain(fd);
    if (domain === undefined) return connectAgain(context, fd);
    const plan = makePlan(context, fd, domain, destination);
    // Each attempt has a duplicate of its own, since it may go on after this call.
    return plan === undefined ? CONTINUE : new Attempt(context, call, fd.dup(), plan).begin();
  } finally {
    fd.close();
  }
}

function readSocketAddress({ tracee, args }: Call): Uint8Array | undefined {
  const length = args[2];
  if (length < 2 || length > MAX_ADDRESS_BYTES) return undefined; // EINVAL from the kernel
  return tracee.read(args[1], length);
}

/** On a socket that was swapped in: the same call once more after a signal came between swap and answer, or a second one. */
function connectAgain({ table }: Context, fd: OwnedFd): Answer {
  if (inspectSocket(fd) === undefined) return CONTINUE;
  return table.acknowledge(cookieOf(fd)) ? value(0) : failure(EISCONN);
}

type Plan = { readonly domain: Domain; readonly target: Endpoint; readonly path: string };

/** undefined where nobody registered listens at the destination, or this socket is on its way already. */
function makePlan(context: Context, fd: OwnedFd, domain: Domain, destination: InetAddress): Plan | undefined {
  if (!isFresh(fd)) return undefined; // EISCONN, EALREADY, or the news of a connect over TCP
  const host = unmapHost(destination.host);
  const target = { host: isUnspecified(host) ? loopbackFor(host) : host, port: destination.port };
  const resolution = context.registry.resolve(formatHost(target.host), target.port);
  return resolution === undefined ? undefined : { domain, target, path: resolution.path };
}

// A full backlog is EAGAIN at once, where TCP would send its SYN again: for so long it is tried again.
const FIRST_RETRY_MS = 1;
const LONGEST_RETRY_MS = 50;
const PATIENCE_MS = 2000;
const PATIENCE_NON_BLOCKING_MS = 200;
const NAMES_TO_TRY = 64;

/** Why a connection to a registered listener goes over TCP. */
class Fallback extends Error {
  override readonly name = "Fallback";
}

/** One connect() on its way over the Unix socket; holds the program's socket and the new one until it is over. */
class Attempt {
  readonly #context: Context;
  readonly #call: Call;
  readonly #plan: Plan;
  readonly #tcp: OwnedFd;
  readonly #unix: OwnedFd;
  #flags = 0;
  #delayMs: number = FIRST_RETRY_MS;
  #leftMs: number = PATIENCE_MS;

  /** @param tcp  the program's socket; taken */
  constructor(context: Context, call: Call, tcp: OwnedFd, plan: Plan) {
    this.#context = context;
    this.#call = call;
    this.#plan = plan;
    this.#tcp = tcp;
    this.#unix = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK);
  }

  begin(): Answer {
    return this.#guard(() => {
      this.#prepare();
      return this.#connect();
    });
  }

  /** Closes what it holds unless it goes on. An obstacle becomes the recorded reason for plain TCP. */
  #guard(step: () => Answer): Answer {
    let answer: Answer = CONTINUE;
    try {
      answer = step();
    } catch (error) {
      if (!(error instanceof Fallback || error instanceof SyscallError || error instanceof RangeError)) {
        this.#close();
        throw error;
      }
      this.#report(error.message);
    }
    if (answer.kind !== "later") this.#close();
    return answer;
  }

  #close(): void {
    this.#tcp.close();
    this.#unix.close();
  }

  #report(reason: string): void {
    const { registry, logger } = this.#context;
    const { host, port } = this.#plan.target;
    logger.info(`Connected to tcp:${formatHost(host)}:${port} over TCP: ${reason}`);
    registry.reportFallback(formatHost(host), port, reason);
  }

  #prepare(): void {
    const { tracee, args } = this.#call;
    this.#flags = tracee.descriptorFlags(args[0]);
    const isNonBlocking = (this.#flags & O_NONBLOCK) !== 0;
    if (isNonBlocking) this.#leftMs = PATIENCE_NON_BLOCKING_MS;
    dressUnixSocket(this.#unix, this.#context.template(this.#plan.domain).commonOptions(this.#tcp));
    this.#bindName();
  }

  /** The name is the 4-tuple; one that is taken is a connection that exists. */
  #bindName(): void {
    const { domain, target } = this.#plan;
    const bound = localEndpoint(this.#tcp);
    const host = isUnspecified(bound.host) ? sourceFor(target) : bound.host;
    for (let count = 0; count < NAMES_TO_TRY; count++) {
      const port = bound.port === 0 ? nextPort(domain) : bound.port;
      if (this.#tryBind({ host, port })) return;
      if (bound.port !== 0) break;
    }
    throw new Fallback("no local port is free for this destination");
  }

  #tryBind(client: Endpoint): boolean {
    const { domain, target } = this.#plan;
    try {
      bind(this.#unix, unixAddress(connectionName({ domain, client, server: target })));
      return true;
    } catch (error) {
      if (error instanceof SyscallError && error.errno === EADDRINUSE) return false;
      throw error;
    }
  }

  #connect(): Answer {
    try {
      connect(this.#unix, unixAddress(this.#plan.path), this.#plan.path);
    } catch (error) {
      if (error instanceof SyscallError && error.errno === EAGAIN && this.#leftMs > 0) return this.#wait();
      throw error;
    }
    return this.#swap();
  }

  #wait(): Answer {
    this.#context.reactor.setTimer(this.#delayMs, () => {
      const answer = this.#guard(() => (this.#call.tracee.isWaiting ? this.#connect() : CONTINUE));
      this.#context.answer(this.#call, answer);
    });
    this.#leftMs -= this.#delayMs;
    this.#delayMs = Math.min(this.#delayMs * 2, LONGEST_RETRY_MS);
    return LATER;
  }

  #swap(): Answer {
    const { table } = this.#context;
    const cookie = cookieOf(this.#unix);
    table.setOptions(cookie, this.#context.template(this.#plan.domain).tcpOptions(this.#tcp));
    setNonBlocking(this.#unix, (this.#flags & O_NONBLOCK) !== 0);
    table.expectAcknowledgement(cookie);
    if (!swapSocket(this.#context, this.#call, this.#tcp, this.#unix)) throw new CallGone();
    // Answered here, since only whether the answer arrived tells if the program will ask again.
    if (this.#context.answer(this.#call, value(0))) table.acknowledge(cookie);
    return DONE;
  }
}

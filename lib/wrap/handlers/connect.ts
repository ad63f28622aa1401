/**
 * connect(2): a TCP socket on its way to a registered listener becomes a connected Unix socket, under the same number.
 * Whatever stands in the way, the untouched socket goes on over TCP, and the reason is recorded.
 */
import { resolve } from "node:path";
import {
  addressFamily,
  bind,
  connect,
  constants,
  errno,
  errnoName,
  fcntl,
  getStatusFlags,
  getsockopt,
  type OwnedFd,
  readInetAddress,
  SyscallError,
  send,
  setsockopt,
  socket,
  unixAddress,
} from "../../../ffi/mod.ts";
import { type Answer, CONTINUE, DONE, failure, LATER, value } from "../answer.ts";
import type { Call, Context } from "../context.ts";
import { type Endpoint, formatHost, isUnspecified, loopbackFor, unmapHost } from "../host.ts";
import type { Decision, DecisionCount, Outcome } from "../journal.ts";
import { connectionName } from "../names.ts";
import { dressUnixSocket, wantsCompletions } from "../options.ts";
import { nextPort, sourceFor } from "../route.ts";
import { expand, findRule } from "../rules/match.ts";
import type { Rule } from "../rules/types.ts";
import { cookieOf, familyOf, inspectSocket, isFresh, socketAddress, type TcpSocket, tcpSocket } from "../socket.ts";
import type { Cookie } from "../socket-table.ts";
import { swapAndClose, swapSocket } from "../swap.ts";
import { CallGone } from "../tracee.ts";
import { disconnect, whatWasChosen } from "./disconnect.ts";

const { AF_INET, AF_UNIX, AF_UNSPEC, F_SETFL, O_NONBLOCK, SO_SNDTIMEO, SOCK_NONBLOCK, SOCK_STREAM, SOL_SOCKET } =
  constants;
const { EADDRINUSE, EAGAIN, EISCONN } = errno;

const ONE_MICROSECOND = new Uint8Array(BigInt64Array.of(0n, 1n).buffer);
const SOCKADDR_IN_BYTES = 16;
const SOCKADDR_IN6_LEAST_BYTES = 24; // without a scope: SIN6_LEN_RFC2133 of the kernel
const MAX_ADDRESS_BYTES = 128; // struct sockaddr_storage

/** What sendto(2) with MSG_FASTOPEN sends once it is connected. */
export type FirstData = { readonly address: number; readonly length: number };

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
    const host = unmapHost(destination.host);
    const target = { host: isUnspecified(host) ? loopbackFor(host) : host, port: destination.port };
    const plan = makePlan(context, call, fd, socket, target);
    if (!("path" in plan)) return plan;
    const attempt = new Attempt(context, call, fd, plan, first);
    fd = undefined; // an attempt may go on after this call
    return attempt.begin();
  } finally {
    fd?.close();
  }
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

type Plan = {
  readonly socket: TcpSocket;
  readonly target: Endpoint;
  /** Or "@" and an abstract name. */
  readonly path: string;
  readonly rule: Rule | undefined;
};

const INTERRUPTED = "a signal interrupted connect()";
const UNKNOWN = "no wrapped program listens there";

/** What is to be done about a connection; an answer where that is nothing. */
function makePlan(context: Context, call: Call, fd: OwnedFd, socket: TcpSocket, target: Endpoint): Plan | Answer {
  const rule = findRule(context.rules, { direction: "out", endpoint: target });
  const plan = (path: string): Plan => ({ socket, target, path, rule });
  const decide = (outcome: Outcome, reason: string, answer: Answer): Answer => {
    note(context, call, target, { outcome, reason, rule });
    return answer;
  };
  switch (rule?.action.kind) {
    case "path":
      return plan(resolve(expand(rule.action.path, target)));
    case "abstract":
      return plan(`@${expand(rule.action.name, target)}`);
    case "reject":
      return decide("refused", errnoName(rule.action.errno), failure(rule.action.errno));
    case "blackhole":
      return decide("refused", "the rule says that nobody is there", failure(errno.ECONNREFUSED));
    case "ignore":
      return decide("tcp", "the rule says so", CONTINUE);
    default:
  }
  const resolution = context.resolver.resolve(formatHost(target.host), target.port);
  const isHere = resolution === undefined || context.template(socket.domain).isOfOurNetwork(fd);
  if (resolution !== undefined && isHere) return plan(resolution.path);
  return rule?.require === true
    ? decide("refused", UNKNOWN, failure(errno.ECONNREFUSED))
    : decide("tcp", UNKNOWN, CONTINUE);
}

type Verdict = Pick<Decision, "outcome" | "reason" | "path"> & { readonly rule: Rule | undefined };

function note(
  { journal }: Context,
  { tracee }: Call,
  { host, port }: Endpoint,
  verdict: Verdict,
): DecisionCount | undefined {
  const { rule, ...rest } = verdict;
  const where = { call: "connect", thread: tracee.thread, address: formatHost(host), port } as const;
  return journal.decide({ ...where, ...rest, rule: rule?.text });
}

// A full backlog is EAGAIN at once, where TCP would send its SYN again: for so long it is tried again.
const FIRST_RETRY_MS = 1;
const LONGEST_RETRY_MS = 50;
const PATIENCE_MS = 2000;
const PATIENCE_NON_BLOCKING_MS = 200;
/** Of Fast Open's data; less than the smallest of send buffers takes. */
const MAX_FIRST_BYTES = 65_536;
const PATIENCE_WITH_AN_END_MS = 100;
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
  readonly #first: FirstData | undefined;
  #firstBytes: Uint8Array | undefined;
  #path: string;
  /** The program's socket, where an option that only TCP has was set on it. */
  #touched: Cookie | undefined;
  #isNonBlocking = false;
  #delayMs: number = FIRST_RETRY_MS;
  #leftMs: number = PATIENCE_MS;

  /** @param tcp  the program's socket; taken */
  constructor(context: Context, call: Call, tcp: OwnedFd, plan: Plan, first: FirstData | undefined) {
    this.#context = context;
    this.#call = call;
    this.#plan = plan;
    this.#first = first;
    this.#path = plan.path;
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
      if (error instanceof CallGone && !this.#tcp.closed && this.#first === undefined) this.#goOnByTcp();
      if (!(error instanceof Fallback || error instanceof SyscallError || error instanceof RangeError)) {
        this.#close();
        throw error;
      }
      answer = this.#fallBack(error);
    }
    if (answer.kind !== "later") this.#close();
    return answer;
  }

  /** A signal has interrupted the call. TCP goes on connecting then, and the program may wait for that (connect(2),
   *  EINTR) or call again. */
  #goOnByTcp(): void {
    const { socket, target } = this.#plan;
    note(this.#context, this.#call, target, { outcome: "tcp", reason: INTERRUPTED, rule: this.#plan.rule });
    this.#context.registry.reportFallback(formatHost(target.host), target.port, INTERRUPTED);
    try {
      const isUp = connectBriefly(this.#tcp, socketAddress(socket.domain, target));
      if (isUp) this.#context.table.expectAcknowledgement(cookieOf(this.#tcp));
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error; // refused: the program learns so when it calls again
    }
  }

  #close(): void {
    this.#tcp.close();
    this.#unix.close();
  }

  /** The recorded reason for plain TCP; an error where a rule forbids that. */
  #fallBack(error: Error): Answer {
    const { registry, logger } = this.#context;
    const { target, rule } = this.#plan;
    const [host, port, reason] = [formatHost(target.host), target.port, error.message];
    const isRefused = rule?.require === true;
    note(this.#context, this.#call, target, { outcome: isRefused ? "refused" : "tcp", reason, rule });
    if (isRefused) return failure(asTcp(error));
    logger.info(`Connected to tcp:${host}:${port} over TCP: ${reason}`);
    registry.reportFallback(host, port, reason);
    return CONTINUE;
  }

  #prepare(): void {
    const { table } = this.#context;
    if (table.isAnyTouched && table.wasTouched(cookieOf(this.#tcp)) && wantsCompletions(this.#tcp)) {
      throw new Fallback("the program wants completions of MSG_ZEROCOPY");
    }
    this.#isNonBlocking = (getStatusFlags(this.#tcp) & O_NONBLOCK) !== 0;
    if (this.#isNonBlocking) this.#leftMs = PATIENCE_NON_BLOCKING_MS;
    this.#firstBytes = this.#first && this.#readFirst(this.#first);
    dressUnixSocket(this.#unix, this.#context.template(this.#plan.socket.domain).commonOptions(this.#tcp));
    this.#bindName();
  }

  #readFirst({ address, length }: FirstData): Uint8Array {
    const bytes = length > MAX_FIRST_BYTES ? undefined : this.#call.tracee.peek(address, length);
    if (bytes === undefined) throw new Fallback("too much is sent by TCP Fast Open, or what cannot be read");
    return bytes;
  }

  /** The name is the 4-tuple; one that is taken is a connection that exists. */
  #bindName(): void {
    const { socket, target } = this.#plan;
    const { domain, bound } = socket;
    const host = isUnspecified(bound.host) ? sourceFor(target) : bound.host;
    for (let count = 0; count < NAMES_TO_TRY; count++) {
      const port = bound.port === 0 ? nextPort(domain) : bound.port;
      if (this.#tryBind({ host, port })) return;
      if (bound.port !== 0) break;
    }
    throw new Fallback("no local port is free for this destination");
  }

  #tryBind(client: Endpoint): boolean {
    const { socket, target } = this.#plan;
    try {
      bind(this.#unix, unixAddress(connectionName({ domain: socket.domain, client, server: target })));
      return true;
    } catch (error) {
      if (error instanceof SyscallError && error.errno === EADDRINUSE) return false;
      throw error;
    }
  }

  #connect(): Answer {
    try {
      connect(this.#unix, unixAddress(this.#path), this.#path);
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
      if (error.errno === EAGAIN && this.#leftMs > 0) return this.#wait();
      return this.#askAgain(error);
    }
    return this.#swap();
  }

  /** The registry may know better by now than what we remembered of it. */
  #askAgain(error: SyscallError): Answer {
    const { resolver } = this.#context;
    const { target, rule } = this.#plan;
    const [host, port] = [formatHost(target.host), target.port];
    const isGone = error.errno === errno.ECONNREFUSED || error.errno === errno.ENOENT;
    const isOfRule = rule?.action.kind === "path" || rule?.action.kind === "abstract";
    if (!isGone || isOfRule) throw error;
    resolver.forget(host, port);
    const found = resolver.resolve(host, port);
    if (found === undefined && rule?.require !== true) {
      note(this.#context, this.#call, target, { outcome: "tcp", reason: UNKNOWN, rule });
      return CONTINUE;
    }
    if (found === undefined) throw error;
    if (found.path === this.#path) return this.#waitForEnd(error);
    this.#path = found.path;
    return this.#connect();
  }

  /** Nobody holds the listener, which its supervisor learns in a moment. TCP would find the port still open until then. */
  #waitForEnd(error: SyscallError): Answer {
    this.#leftMs = Math.min(this.#leftMs, PATIENCE_WITH_AN_END_MS);
    if (this.#leftMs <= 0) throw error;
    return this.#wait();
  }

  #wait(): Answer {
    this.#context.reactor.setTimer(this.#delayMs, () => {
      const answer = this.#goOn();
      this.#context.answer(this.#call, answer);
    });
    this.#leftMs -= this.#delayMs;
    this.#delayMs = Math.min(this.#delayMs * 2, LONGEST_RETRY_MS);
    return LATER;
  }

  #goOn(): Answer {
    try {
      return this.#guard(() => (this.#call.tracee.isWaiting ? this.#connect() : CONTINUE));
    } catch (error) {
      if (error instanceof CallGone) return DONE;
      throw error;
    }
  }

  #swap(): Answer {
    const { table } = this.#context;
    this.#keepOptions();
    if (!this.#isNonBlocking) fcntl(this.#unix, F_SETFL, 0);
    let isAnswered = false;
    try {
      if (!this.#exchange()) throw new CallGone();
      if (this.#touched !== undefined) table.forgetTouch(this.#touched);
      // Answered here, since only whether the answer arrived tells if the program will ask again.
      isAnswered = this.#context.answer(this.#call, value(this.#sendFirst()));
    } finally {
      if (!isAnswered) table.expectAcknowledgement(cookieOf(this.#unix));
    }
    const { target, rule, socket } = this.#plan;
    const verdict = { outcome: "unix", reason: undefined, path: this.#path, rule } as const;
    const count = note(this.#context, this.#call, target, verdict);
    if (socket.domain === 4) this.#context.shortcut.learn(this.#call.tracee.thread, target, this.#path, count);
    return DONE;
  }

  /** It fits in the empty buffer of a new connection. @returns what the call is to return */
  #sendFirst(): number {
    const bytes = this.#firstBytes;
    if (bytes === undefined || bytes.length === 0) return 0;
    return send(this.#unix, bytes, constants.MSG_DONTWAIT | constants.MSG_NOSIGNAL) ?? 0;
  }

  #exchange(): boolean {
    const { bound, domain } = this.#plan.socket;
    if (bound.port === 0) return swapAndClose(this.#context, this.#call, this.#tcp, this.#unix);
    if (!swapSocket(this.#context, this.#call, this.#tcp, this.#unix)) return false;
    this.#context.table.setBound(cookieOf(this.#unix), whatWasChosen(this.#tcp, domain));
    return true;
  }

  /** What only TCP has, if anything of that was set. */
  #keepOptions(): void {
    const { table, template } = this.#context;
    const { domain, isMultipath } = this.#plan.socket;
    if (!isMultipath && !table.isAnyTouched) return;
    const cookie = cookieOf(this.#tcp);
    if (!isMultipath && !table.wasTouched(cookie)) return;
    table.setOptions(cookieOf(this.#unix), template(domain).tcpOptions(this.#tcp));
    this.#touched = cookie;
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
  if (error.errno === EAGAIN) return errno.ETIMEDOUT;
  return error.errno === errno.EACCES ? errno.EACCES : errno.ECONNREFUSED;
}

/** listen(2): here a TCP socket of the program becomes a Unix listener, under the same number. */
import { resolve } from "node:path";
import {
  type BorrowedFd,
  bind,
  constants,
  errno,
  errnoName,
  getIntOption,
  inetAddress,
  listen,
  type OwnedFd,
  poll,
  SyscallError,
  setsockopt,
  shutdown,
  socket,
} from "../../../ffi/mod.ts";
import { ShmlinkError } from "../../errors.ts";
import { type Answer, CONTINUE, DONE, failure, value } from "../answer.ts";
import type { Call, Context } from "../context.ts";
import { type Endpoint, formatHost, hostPort, mapHost } from "../host.ts";
import type { Outcome } from "../journal.ts";
import type { WrappedListener } from "../listener.ts";
import type { Domain, Shape } from "../names.ts";
import { isBoundToOtherInterface, wantsCompletions } from "../options.ts";
import { LONGEST_BACKLOG, type Place } from "../place.ts";
import { expand, findRule, namesPlace } from "../rules/match.ts";
import type { Rule } from "../rules/types.ts";
import { cookieOf, familyOf, inspectSocket, isFresh, localEndpoint, socketAddress, tcpDomain } from "../socket.ts";
import type { Cookie } from "../socket-table.ts";
import { swapSocket } from "../swap.ts";
import { processOf } from "../tracee.ts";

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
  const cookie = cookieOf(fd);
  const isNew = isFresh(fd) || context.table.owesAcknowledgement(cookie);
  if (!isNew || context.table.listener(cookie) !== undefined) return CONTINUE;
  using tcp = fd.dup();
  const failed = attempt(() => bindIfUnbound(tcp, domain));
  if (failed !== undefined) return failed;
  const rule = findRule(context.rules, { direction: "in", endpoint: localEndpoint(tcp) });
  const plan: Plan = { call, domain, tcp, rule, old: fd };
  if (rule?.action.kind === "reject") return refuse(context, plan, rule.action.errno);
  if (rule?.action.kind === "ignore") return note(context, plan, "tcp", "the rule says so", CONTINUE);
  const isElsewhere = rule === undefined && !context.template(domain).isOfOurNetwork(fd);
  if (isElsewhere) return note(context, plan, "tcp", "it is in another network namespace", CONTINUE);
  const obstacle = obstacleTo(context, plan, cookie);
  if (obstacle !== undefined) return stayOnTcp(context, plan, obstacle);
  return shareGroup(context, plan) ?? listenAs(context, plan);
}

function obstacleTo({ table }: Context, { tcp, rule }: Plan, cookie: Cookie): Obstacle | undefined {
  if (!namesPlace(rule) && isBoundToOtherInterface(tcp)) return OTHER_INTERFACE;
  if (wantsCompletions(tcp)) return NO_COMPLETIONS;
  return table.timesOwed(cookie) < MOST_INTERRUPTED ? undefined : INTERRUPTED;
}

const NO_COMPLETIONS: Obstacle = {
  reason: "the program wants completions of MSG_ZEROCOPY",
  errno: errno.EOPNOTSUPP,
};

const OTHER_INTERFACE: Obstacle = { reason: "it is bound to another network interface", errno: errno.EOPNOTSUPP };

/** Who gets signals faster than a listener is made would call listen() for ever. */
const MOST_INTERRUPTED = 20;

const INTERRUPTED: Obstacle = { reason: "signals interrupt listen() again and again", errno: errno.EINTR };

/** A TCP socket that is about to listen. */
type Plan = {
  readonly call: Call;
  readonly domain: Domain;
  /** To listen on; lent. */
  readonly tcp: OwnedFd;
  readonly rule: Rule | undefined;
  /** What the program holds; lent. */
  readonly old: BorrowedFd;
};

function note(
  { journal }: Context,
  plan: Plan,
  outcome: Outcome,
  reason: string | undefined,
  answer: Answer,
  path?: string,
): Answer {
  const { host, port } = localEndpoint(plan.tcp);
  const { thread } = plan.call.tracee;
  const rule = plan.rule?.text;
  journal.decide({ call: "listen", thread, address: formatHost(host), port, outcome, rule, reason, path });
  return answer;
}

function refuse(context: Context, plan: Plan, number: number, reason?: string): Answer {
  return note(context, plan, "refused", reason ?? errnoName(number), failure(number));
}

function listenAs(context: Context, plan: Plan): Answer {
  const place = placeFor(context, plan.rule, localEndpoint(plan.tcp));
  const exposeTcp = context.exposeTcp && plan.rule?.noTcp !== true && place.kind !== "nowhere";
  const failed = exposeTcp ? attempt(() => listen(plan.tcp, LONGEST_BACKLOG)) : undefined;
  if (failed !== undefined) return failed;
  context.table.expectAcknowledgement(cookieOf(plan.old)); // its TCP socket listens from here on, whatever becomes of the call
  return handOff(context, plan, place, exposeTcp);
}

/** @returns an answer where that fails, as the program would have seen it */
function attempt(action: () => void): Answer | undefined {
  try {
    action();
    return undefined;
  } catch (error) {
    if (error instanceof SyscallError) return failure(error.errno);
    throw error;
  }
}

/** listen(2) chooses a port for a socket that has none. */
function bindIfUnbound(tcp: OwnedFd, domain: Domain): void {
  const { host, port } = localEndpoint(tcp);
  if (port === 0) bind(tcp, inetAddress({ family: familyOf(domain), host: mapHost(host, domain === 6), port: 0 }));
}

function handOff(context: Context, plan: Plan, place: Place, exposeTcp: boolean): Answer {
  const { call, old } = plan;
  const created = create(context, plan, place, exposeTcp);
  if ("reason" in created) return stayOnTcp(context, plan, created);
  using unix = created.unix;
  if (!putInPlace(context, plan, created.listener, unix)) return DONE; // a signal came first: the program calls again
  context.table.acknowledge(cookieOf(old));
  context.table.touched.delete(cookieOf(old)); // it is to connect no more
  context.listeners.rememberHolder(created.listener, processOf(call.tracee.thread), call.args[0] | 0);
  const { path } = created.listener;
  return note(context, plan, path === "" ? "nowhere" : "unix", undefined, value(0), path);
}

/** @returns false when nobody waits for the call any more: the listener has gone then */
function putInPlace(context: Context, { call, old }: Plan, listener: WrappedListener, unix: BorrowedFd): boolean {
  let isThere = false;
  try {
    isThere = swapSocket(context, call, old, unix);
    return isThere;
  } finally {
    if (!isThere) context.listeners.remove(listener);
  }
}

type Obstacle = { readonly reason: string; readonly errno: number };

function stayOnTcp(context: Context, plan: Plan, { reason, errno: number }: Obstacle): Answer {
  context.table.acknowledge(cookieOf(plan.old));
  if (plan.rule?.require === true) {
    stopListening(plan);
    return refuse(context, plan, number, reason);
  }
  const { host, port } = localEndpoint(plan.tcp);
  context.logger.warn(`Left tcp:${hostPort(formatHost(host), port)} to plain TCP: ${reason}`);
  return note(context, plan, "tcp", reason, CONTINUE);
}

/** As it was before listen(2): else nobody would accept who connects, and a second listen(2) would be the kernel's. */
function stopListening({ tcp, domain }: Plan): void {
  if (isFresh(tcp)) return;
  const local = localEndpoint(tcp);
  attempt(() => shutdown(tcp, constants.SHUT_RD));
  attempt(() => bind(tcp, socketAddress(domain, local))); // a port that nobody chose was given up; else it fails
}

/** SO_REUSEPORT lets many sockets listen on one address: those of one tree share the listener that was there first,
 *  its queue included, and end it with the last of them. */
function shareGroup(context: Context, plan: Plan): Answer | undefined {
  const { call, tcp, domain, old } = plan;
  if (getIntOption(tcp, constants.SOL_SOCKET, constants.SO_REUSEPORT) === 0) return undefined;
  const listener = context.listeners.findNamed({ domain, local: localEndpoint(tcp) });
  using unix = listener && context.listeners.borrowUnix(listener);
  if (listener === undefined || unix === undefined) return undefined;
  if (!swapSocket(context, call, old, unix)) return DONE;
  return note(context, plan, "unix", "shared by SO_REUSEPORT", value(0), listener.path);
}

/** shutdown(SHUT_RD) ends a Unix listener for good, a TCP one until the next listen(2): so it gets a new one. */
function listenAgain(context: Context, call: Call, fd: OwnedFd, { domain, local }: Shape): Answer {
  const listener = context.table.listener(cookieOf(fd));
  using tcp = listener?.tcp.dup() ?? bindAgain(domain, local);
  if (tcp === undefined) return failure(errno.EADDRINUSE);
  if (listener !== undefined) context.listeners.remove(listener);
  const rule = findRule(context.rules, { direction: "in", endpoint: local });
  return listenAs(context, { call, domain, tcp, rule, old: fd });
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

function create(
  context: Context,
  { call, tcp, domain, rule }: Plan,
  place: Place,
  exposeTcp: boolean,
): { readonly listener: WrappedListener; readonly unix: OwnedFd } | Obstacle {
  const local = localEndpoint(tcp);
  try {
    return context.listeners.create({
      name: { domain, local },
      tcp: tcp.dup(),
      template: context.template(domain),
      v6only: domain === 6 && getIntOption(tcp, constants.IPPROTO_IPV6, constants.IPV6_V6ONLY) !== 0,
      pid: processOf(call.tracee.thread),
      place,
      access: { mode: rule?.mode, owner: rule?.owner, group: rule?.group },
      exposeTcp,
      keepsFile: rule?.keepsFile === true,
      serviceName: rule?.name,
    });
  } catch (error) {
    if (error instanceof SyscallError) return { reason: error.message, errno: error.errno };
    if (!(error instanceof ShmlinkError || error instanceof RangeError)) throw error;
    return { reason: error.message, errno: errno.EADDRINUSE };
  }
}

function placeFor({ listeners, given }: Context, rule: Rule | undefined, local: Endpoint): Place {
  switch (rule?.action.kind) {
    case "path": {
      const path = resolve(expand(rule.action.path, local));
      // The same place a second time is a program that listens on IPv4 and on IPv6.
      return listeners.holds(path) ? { kind: "nowhere" } : { kind: "path", path };
    }
    case "abstract": {
      const name = expand(rule.action.name, local);
      return listeners.holds(`@${name}`) ? { kind: "nowhere" } : { kind: "abstract", name };
    }
    case "systemd": {
      const { name } = rule.action;
      return { kind: "given", take: () => given.take(name) };
    }
    case "blackhole":
      return { kind: "nowhere" };
    default:
      return { kind: "folder" };
  }
}

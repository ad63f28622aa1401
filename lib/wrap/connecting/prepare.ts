/** Makes a Unix socket ready to stand for a TCP one that connects: its options, and its name, which is the 4-tuple. */
import { bind, errno, SyscallError, unixAddress } from "../../../ffi/mod.ts";
import { FALLBACK } from "../../util/fallback-reason.ts";
import { type Endpoint, formatHost, hostPort, isUnspecified } from "../host.ts";
import { connectionName } from "../names.ts";
import { dressUnixSocket, isBoundToOtherInterface, wantsCompletions } from "../options.ts";
import { nextPort, sourceFor } from "../route.ts";
import { namesPlace } from "../rules/match.ts";
import { cookieOf } from "../socket.ts";
import type { Touch } from "../touched.ts";
import type { Connecting } from "./connecting.ts";
import { CrowdedDestinations } from "./crowded.ts";
import { Fallback } from "./fallback.ts";

const crowded = new CrowdedDestinations();

/** What options are known to have been set on the socket that connects. Multipath TCP's own are noted by nobody. */
export function touchOf({ context: { table }, plan, tcp }: Connecting): Touch | undefined {
  if (plan.socket.isMultipath) return "tcp";
  return table.touched.isAny ? table.touched.of(cookieOf(tcp)) : undefined;
}

/** @throws Fallback for a socket that no Unix socket can stand for */
export function refuseUnfit({ plan, tcp }: Connecting, touch: Touch | undefined): void {
  if (touch === "tcp" && wantsCompletions(tcp)) throw new Fallback(FALLBACK.completions);
  if (touch !== undefined && !namesPlace(plan.rule) && isBoundToOtherInterface(tcp)) {
    throw new Fallback(FALLBACK.otherInterface);
  }
}

/** @throws Fallback where no port is free */
export function dressAndName(connecting: Connecting, touch: Touch | undefined): void {
  const { context, plan, tcp, unix } = connecting;
  dressUnixSocket(unix, context.template(plan.socket.domain).commonOptions(tcp, touch !== undefined));
  bindName(connecting);
}

/** One that is taken is a connection that exists. */
function bindName(connecting: Connecting): void {
  const { socket, target } = connecting.plan;
  const { domain, bound } = socket;
  const host = isUnspecified(bound.host) ? sourceFor(target) : bound.host;
  const isMapped = domain === 6 && target.host.length === 4;
  const nowMs = performance.now();
  const destination = hostPort(formatHost(target.host), target.port);
  const count = bound.port === 0 ? crowded.namesToTry(destination, nowMs) : 1;
  for (let tried = 0; tried < count; tried++) {
    const port = bound.port === 0 ? nextPort(isMapped, target.port) : bound.port;
    if (tryBind(connecting, { host, port })) return;
  }
  if (bound.port === 0) crowded.note(destination, nowMs);
  throw new Fallback(FALLBACK.noPort);
}

function tryBind({ plan, unix }: Connecting, client: Endpoint): boolean {
  const { socket, target } = plan;
  try {
    bind(unix, unixAddress(connectionName({ domain: socket.domain, client, server: target })));
    return true;
  } catch (error) {
    if (error instanceof SyscallError && error.errno === errno.EADDRINUSE) return false;
    throw error;
  }
}

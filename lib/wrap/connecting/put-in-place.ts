/** Puts a connected Unix socket in the place of the program's and answers its connect(). */
import { value } from "../answer.ts";
import { whatWasChosen } from "../handlers/disconnect.ts";
import { isUnspecified } from "../host.ts";
import { sourceFor } from "../route.ts";
import { cookieOf } from "../socket.ts";
import type { Cookie } from "../socket-table.ts";
import { swapAndClose } from "../swap.ts";
import { CallGone } from "../tracee.ts";
import type { Connecting } from "./connecting.ts";
import { sendFirst } from "./first-data.ts";
import { note } from "./plan.ts";

export type Placing = {
  readonly path: string;
  /** To be sent before the answer, which is its length then. */
  readonly firstBytes: Uint8Array | undefined;
};

/** @throws CallGone when nobody waits any more: what is in place is owed an answer then */
export function putInPlace(connecting: Connecting, { path, firstBytes }: Placing): void {
  const { context, call, plan, unix } = connecting;
  const touched = keepOptions(connecting);
  let isAnswered = false;
  try {
    if (!exchange(connecting)) throw new CallGone();
    if (touched !== undefined) context.table.touched.delete(touched);
    // Answered here, since only whether the answer arrived tells if the program will ask again.
    isAnswered = context.answer(call, value(sendFirst(unix, firstBytes)));
  } finally {
    if (!isAnswered) context.table.expectAcknowledgement(cookieOf(unix));
  }
  const { target, rule, socket } = plan;
  const count = note(context, call, target, { outcome: "unix", reason: undefined, path, rule });
  if (socket.domain === 4) context.shortcut.learn(call.tracee.thread, target, path, count);
}

function exchange(connecting: Connecting): boolean {
  const { context, call, plan, tcp, unix } = connecting;
  if (plan.socket.bound.port === 0) return swapAndClose(context, call, tcp, unix);
  return swapAndClose(context, call, tcp, unix, () => {
    // First, since to find out what was chosen gives up a port that the kernel chose: anybody could be given it.
    keepPort(connecting);
    context.table.setBound(cookieOf(unix), whatWasChosen(tcp, plan.socket.domain));
  });
}

/** Of a socket that was bound to all addresses, connect(2) leaves the one that it connects from. The port of another
 *  network namespace cannot be kept by a socket of ours. */
function keepPort({ context, plan, tcp, unix }: Connecting): void {
  const { target, socket } = plan;
  const { domain, bound } = socket;
  if (!context.template(domain).isOfOurNetwork(tcp)) return;
  const host = isUnspecified(bound.host) ? sourceFor(target) : bound.host;
  context.reservedPorts.keep(unix, tcp, { domain, bound: { host, port: bound.port } });
}

/** What only TCP has, if anything of that was set. @returns the program's socket, where any option was */
function keepOptions({ context: { table, template }, plan, tcp, unix }: Connecting): Cookie | undefined {
  const { domain, isMultipath } = plan.socket;
  if (!isMultipath && !table.touched.isAny) return undefined;
  const cookie = cookieOf(tcp);
  const touch = table.touched.of(cookie);
  if (isMultipath || touch === "tcp") {
    table.setOptions(cookieOf(unix), template(domain).tcpOptions(tcp, table.touched.unusual(cookie)));
  }
  return touch === undefined ? undefined : cookie;
}

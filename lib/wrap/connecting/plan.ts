/** Where a connection is to go: what the rules say, and else who is registered at its address. */
import { resolve } from "node:path";
import { type BorrowedFd, errno, errnoName } from "../../../ffi/mod.ts";
import { type Answer, CONTINUE, failure } from "../answer.ts";
import type { Call, Context } from "../context.ts";
import { type Endpoint, formatHost } from "../host.ts";
import type { Decision, DecisionCount, Outcome } from "../journal.ts";
import { expand, findRule } from "../rules/match.ts";
import type { Rule } from "../rules/types.ts";
import type { TcpSocket } from "../socket.ts";

export type Plan = {
  readonly socket: TcpSocket;
  readonly target: Endpoint;
  /** Or "@" and an abstract name. */
  readonly path: string;
  readonly rule: Rule | undefined;
};

export const UNKNOWN: string = "no wrapped program listens there";
const SILENT = "the broker does not answer";

/** What is to be done about a connection; an answer where that is nothing. */
export function makePlan(
  context: Context,
  call: Call,
  fd: BorrowedFd,
  socket: TcpSocket,
  target: Endpoint,
): Plan | Answer {
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
  const reason = resolution === undefined && context.resolver.isSilent ? SILENT : UNKNOWN;
  return rule?.require === true
    ? decide("refused", reason, failure(errno.ECONNREFUSED))
    : decide("tcp", reason, CONTINUE);
}

type Verdict = Pick<Decision, "outcome" | "reason" | "path"> & { readonly rule: Rule | undefined };

/** Writes down what has become of a connection. */
export function note(
  { journal }: Context,
  { tracee }: Call,
  { host, port }: Endpoint,
  verdict: Verdict,
): DecisionCount | undefined {
  const { rule, ...rest } = verdict;
  const where = { call: "connect", thread: tracee.thread, address: formatHost(host), port } as const;
  return journal.decide({ ...where, ...rest, rule: rule?.text });
}

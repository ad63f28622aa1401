/** What the handlers share: configuration, records, quotas, the log. Handed to each session; owned by broker.ts. */
import type { OwnedFd } from "../../ffi/mod.ts";
import type { ShmlinkConfig } from "../config/schema.ts";
import { type FailureCode, FailureError } from "../errors.ts";
import type { Logger } from "../log.ts";
import { BUILT_IN, DEFAULT_DENY } from "../policy/decide.ts";
import type { Request } from "../policy/types.ts";
import { SHMLINK_MANAGER_V1_FAILURE } from "../protocol/shmlink-v1.gen.ts";
import type { Closer } from "./closer.ts";
import type { Deadlines } from "./deadlines.ts";
import { decideFor, type Subject } from "./decisions.ts";
import type { FloodTurns } from "./flood-turns.ts";
import type { Right } from "./grants.ts";
import type { OwnSockets } from "./own-sockets.ts";
import type { Charge, Quota } from "./quota.ts";
import type { RateLimiter } from "./rate.ts";
import type { ContextRecord, Owner } from "./records.ts";
import type { Registry } from "./registry.ts";
import type { Session } from "./session.ts";
import type { Survival } from "./survival/survival.ts";
import { whoIs } from "./who.ts";
import type { YoungRings } from "./young-rings.ts";

export type BrokerCore = {
  /** Replaced when it is read again; asked for each time. */
  config: ShmlinkConfig;
  readonly registry: Registry;
  readonly quota: Quota;
  readonly rate: RateLimiter;
  readonly ownSockets: OwnSockets;
  readonly closer: Closer;
  readonly deadlines: Deadlines;
  readonly survival: Survival;
  readonly youngRings: YoungRings;
  readonly floodTurns: FloodTurns;
  readonly logger: Logger;
  readonly version: string;
  /** The user the broker runs as. */
  readonly uid: number;
  /** Sessions with something to send; settled at the end of each turn. */
  readonly touched: Set<Session>;
  /** Starts a session on a connection, and takes it, unless it throws. @throws SyscallError */
  readonly startSession: (fd: OwnedFd, owner: Owner) => Session;
  /** Accepts connections with the identity of a context, until its close fd hangs up; takes the descriptors.
   *  @throws SyscallError EPERM when the close fd can never hang up */
  readonly serveContext: (record: ContextRecord) => void;
  readonly startedAtMs: number;
  readonly sessions: () => ReadonlySet<Session>;
};

/** The wire's number for a refusal. */
export function failureNumber(code: FailureCode): number {
  const name = code.replaceAll("-", "_");
  const numbers: Readonly<Record<string, number>> = SHMLINK_MANAGER_V1_FAILURE;
  return numbers[name] ?? SHMLINK_MANAGER_V1_FAILURE.refused;
}

const RIGHT_FOR: Readonly<Record<Request["what"], Right | undefined>> = {
  connect: undefined,
  listen: "listen",
  dial: "dial",
  register: "listen",
  resolve: "dial",
  list: undefined, // what is listed is judged name by name
  offer: "offer",
  take: "take",
  delegate: undefined, // what is passed on is judged right by right
  context: undefined,
};

/** Where the operation's name with a service behind is no English. */
const VERBS: Partial<Record<Request["what"], string>> = { listen: "listen as", context: "create context" };

/** What somebody wants, behind "Cannot". @param service  "" where none is named */
export function wishOf(what: Request["what"], service: string): string {
  return service === "" ? what : `${VERBS[what] ?? what} "${service}"`;
}

/** For what no rule is asked about: refused, and in the log. */
export function denied(core: BrokerCore, who: Owner, wish: string, why: string): FailureError {
  core.logger.warn(`Refused to ${wish}: ${why}`, whoIs(who));
  return new FailureError("denied", `Cannot ${wish}: ${why}`);
}

/** A minted connection does what it was granted, and the policy then judges it as the one who minted it. */
function checkGrants(core: BrokerCore, who: Owner, what: Request["what"], service: string): void {
  const { grants } = who;
  if (grants === undefined) return;
  const right = RIGHT_FOR[what];
  if (what === "context" || (right !== undefined && !grants.allows(right, service)))
    throw denied(core, who, wishOf(what, service), "it was not granted to this connection");
}

/** Once it is allowed: what was refused has its own line. */
function noteUse(core: BrokerCore, who: Owner, what: Request["what"], service: string): void {
  const right = RIGHT_FOR[what];
  if (who.grants !== undefined && right !== undefined) core.logger.info(`Used grant ${right} "${service}"`, whoIs(who));
}

/** Asks the policy. @returns the rule that allows it, for listings @throws FailureError "denied", naming the rule and its place */
export function authorize(
  core: BrokerCore,
  who: Owner,
  what: Request["what"],
  service: string,
  subject: Subject = {},
): string {
  checkGrants(core, who, what, service);
  const decision = decideFor({ rules: core.config.rules, brokerUid: core.uid, who, what, service, subject });
  const rule = decision.where === BUILT_IN ? decision.rule : `${decision.rule} (${decision.where})`;
  if (decision.kind === "allow") {
    noteUse(core, who, what, service);
    return rule;
  }
  const wish = wishOf(what, service);
  core.logger.warn(`Refused to ${wish}: ${decision.reason}`, { ...whoIs(who), rule });
  const place = decision.where === BUILT_IN ? "" : ` at ${decision.where}`;
  const missing = who.context === undefined ? "for it" : "that names its engine, app or instance";
  const whatToDo = decision.rule === DEFAULT_DENY ? `; add an [[allow]] ${missing} to the broker's shmlink.toml` : "";
  throw new FailureError("denied", `Cannot ${wish}: ${decision.reason} (rule "${decision.rule}"${place})${whatToDo}`);
}

/** Charges the quota. @param wish  what it is for, behind "Cannot" @throws FailureError "quota" with the limit's name */
export function chargeQuota(core: BrokerCore, who: Owner, wish: string, charge: Charge): void {
  const refusal = core.quota.charge(who, charge);
  if (refusal !== undefined) throw new FailureError("quota", quotaRefusal(wish, refusal));
}

/** What a peer hears. @param wish  behind "Cannot" @param why  from the quota */
export function quotaRefusal(wish: string, why: string): string {
  return `Cannot ${wish}: ${why}; raise it in shmlink.toml`;
}

/** What the handlers share: configuration, records, quotas, the log. Handed to each session; owned by broker.ts. */
import type { OwnedFd } from "../../ffi/mod.ts";
import type { ShmlinkConfig } from "../config/schema.ts";
import { type FailureCode, FailureError } from "../errors.ts";
import type { Logger } from "../log.ts";
import { BUILT_IN, decide } from "../policy/decide.ts";
import type { Request } from "../policy/types.ts";
import type { AnyRequest } from "../protocol/connection.ts";
import { SHMLINK_MANAGER_V1_FAILURE } from "../protocol/shmlink-v1.gen.ts";
import type { OwnSockets } from "./own-sockets.ts";
import type { Quota } from "./quota.ts";
import type { RateLimiter } from "./rate.ts";
import type { Owner } from "./records.ts";
import type { Registry } from "./registry.ts";
import type { Session } from "./session.ts";

export type BrokerCore = {
  /** Replaced when it is read again; asked for each time. */
  config: ShmlinkConfig;
  readonly registry: Registry;
  readonly quota: Quota;
  readonly rate: RateLimiter;
  readonly ownSockets: OwnSockets;
  readonly logger: Logger;
  readonly version: string;
  /** The user the broker runs as. */
  readonly uid: number;
  /** Sessions with something to send; settled at the end of each turn. */
  readonly touched: Set<Session>;
  readonly startedAtMs: number;
  readonly sessionCount: () => number;
  handleCore(
    session: Session,
    message: Extract<AnyRequest<OwnedFd>, { interface: "wl_display" | "wl_registry" }>,
  ): void;
};

/** The wire's number for a refusal. */
export function failureNumber(code: FailureCode): number {
  const name = code.replaceAll("-", "_");
  const numbers: Readonly<Record<string, number>> = SHMLINK_MANAGER_V1_FAILURE;
  return numbers[name] ?? SHMLINK_MANAGER_V1_FAILURE.refused;
}

/** What a request names besides its operation. */
export type Subject = Omit<Request, "what" | "service">;

/** Asks the policy. @returns the rule that allows it, for listings @throws FailureError "denied", naming the rule and its place */
export function authorize(
  core: BrokerCore,
  who: Owner,
  what: Request["what"],
  service: string,
  subject: Subject = {},
): string {
  const decision = decide(core.config.rules, { ...who, brokerUid: core.uid }, { what, service, ...subject });
  const rule = decision.where === BUILT_IN ? decision.rule : `${decision.rule} (${decision.where})`;
  if (decision.kind === "allow") return rule;
  const wish = service === "" ? what : `${what} "${service}"`;
  core.logger.warn(`Refused to ${wish}: ${decision.reason}`, { uid: who.uid, pid: who.pid, rule });
  const place = decision.where === BUILT_IN ? "" : ` at ${decision.where}`;
  throw new FailureError("denied", `Cannot ${wish}: ${decision.reason} (rule "${decision.rule}"${place})`);
}

/** Charges the quota. @throws FailureError "quota" with the limit's name */
export function chargeQuota(core: BrokerCore, who: Owner, charge: Parameters<Quota["charge"]>[1]): void {
  const refusal = core.quota.charge(who, charge);
  if (refusal !== undefined) throw new FailureError("quota", `Cannot grant this: ${refusal}; raise it in shmlink.toml`);
}

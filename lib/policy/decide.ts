/** (rules, peer, request) → decision. Total: the first rule that speaks of all three decides, and none means no. */
import { matchGlob } from "./glob.ts";
import type { Decision, Peer, Request, Rule, Subject } from "./types.ts";

/** The name under which a refusal for want of a rule is reported. No rule can have it. */
export const DEFAULT_DENY = "default";

export function decide(rules: readonly Rule[], peer: Peer, request: Request): Decision {
  const rule = rules.find((candidate) => matches(candidate, peer, request));
  if (rule === undefined) {
    return { kind: "deny", rule: DEFAULT_DENY, reason: `no rule allows user ${peer.uid} to ${describe(request)}` };
  }
  if (rule.action === "allow") return { kind: "allow", rule: rule.name };
  return { kind: "deny", rule: rule.name, reason: `user ${peer.uid} may not ${describe(request)}` };
}

function matches(rule: Rule, peer: Peer, { what, service }: Request): boolean {
  return (
    rule.what.includes(what) && rule.who.some((subject) => isMeant(subject, peer)) && matchGlob(rule.service, service)
  );
}

function isMeant(subject: Subject, { uid, brokerUid }: Peer): boolean {
  if (subject === "any") return true;
  if (subject === "owner") return uid === brokerUid || uid === 0;
  return uid === subject;
}

function describe({ what, service }: Request): string {
  return service === "" ? what : `${what} it`;
}

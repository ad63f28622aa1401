/**
 * (rules, peer, request) → decision. Total, and independent of the order of the rules: a [[deny]] that fits refuses,
 * else an [[allow]] that fits allows, and none means no.
 */

import { contextName } from "../util/context-word.ts";
import { CRITERIA, type CriterionName, type Verdict } from "./match.ts";
import type { Decision, Peer, Request, Rule } from "./types.ts";

/** The name under which a refusal for want of a rule is reported. No rule can have it. */
export const DEFAULT_DENY = "default";
export const BUILT_IN = "built in";

export function decide(rules: readonly Rule[], peer: Peer, request: Request): Decision {
  const fits = (rule: Rule): boolean => firstMismatch(rule, peer, request) === undefined;
  const denied = rules.find((rule) => rule.effect === "deny" && fits(rule));
  if (denied !== undefined) {
    const reason = `${describePeer(peer)} may not ${describe(request)}`;
    return { kind: "deny", rule: denied.name, where: denied.where, reason };
  }
  const allowed = rules.find((rule) => rule.effect === "allow" && fits(rule));
  if (allowed !== undefined) return { kind: "allow", rule: allowed.name, where: allowed.where };
  const reason = `no rule allows ${describePeer(peer)} to ${describe(request)}`;
  return { kind: "deny", rule: DEFAULT_DENY, where: BUILT_IN, reason };
}

/** What each rule has to say, in the order in which they are asked: undefined for one that fits, else why it does not. */
export function explain(rules: readonly Rule[], peer: Peer, request: Request): readonly Explanation[] {
  const ordered = [
    ...rules.filter(({ effect }) => effect === "deny"),
    ...rules.filter(({ effect }) => effect === "allow"),
  ];
  return ordered.map((rule) => ({ rule, mismatch: firstMismatch(rule, peer, request) }));
}

export type Explanation = { readonly rule: Rule; readonly mismatch: CriterionName | "context" | undefined };

/** The first criterion of `rule` that the request does not meet. What the kernel would not tell counts against the peer. */
function firstMismatch(rule: Rule, peer: Peer, request: Request): CriterionName | "context" | undefined {
  // Who is in a context is let in by rules that name contexts, and by no other.
  if (rule.effect === "allow" && peer.context !== undefined && !namesContext(rule)) return "context";
  for (const [name, matches] of criteriaOf(rule)) {
    const verdict: Verdict = matches(rule, peer, request);
    if (verdict === "no" || (verdict === "unknown" && rule.effect === "allow")) return name;
  }
  return undefined;
}

/** Of the rules that were asked: most name a few criteria, and each request asks each rule. */
const NAMED: WeakMap<Rule, typeof CRITERIA> = new WeakMap();

/** Those that it names; the others always fit. */
function criteriaOf(rule: Rule): typeof CRITERIA {
  let named = NAMED.get(rule);
  if (named === undefined) {
    named = CRITERIA.filter(([name]) => rule.criteria[name] !== undefined);
    NAMED.set(rule, named);
  }
  return named;
}

function namesContext({ criteria: { engine, app, instance } }: Rule): boolean {
  return engine !== undefined || app !== undefined || instance !== undefined;
}

export function describePeer({ uid, context }: Peer): string {
  return context === undefined ? `user ${uid}` : `context ${contextName(context)} (user ${uid})`;
}

/** Where the operation's name, with "it" behind or alone, is no English. */
const PHRASES: Partial<Record<Request["what"], readonly [withName: string, alone: string]>> = {
  listen: ["listen under it", "listen"],
  register: ["register it", "register a listener"],
  resolve: ["resolve it", "resolve an address"],
  context: ["create it", "create a context"],
};

function describe({ what, service, fds }: Request): string {
  const [withName, alone] = PHRASES[what] ?? [`${what} it`, what];
  const phrase = service === "" ? alone : withName;
  return fds === undefined || fds.length === 0
    ? phrase
    : `${phrase} as ${[...new Set(fds.map(({ type }) => type))].join(", ")}`;
}

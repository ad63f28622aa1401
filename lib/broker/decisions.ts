/**
 * What the policy says, asked once as long as it is the same question: most programs ask the same again and again. A decision is
 * remembered for its asker, one for each operation, and goes with him; other rules are another question.
 */
import { decide } from "../policy/decide.ts";
import type { FdFacts } from "../policy/fd-facts.ts";
import { factsNamedBy } from "../policy/match-fd.ts";
import type { Decision, Operation, Peer, Request, Rule } from "../policy/types.ts";
import type { Owner } from "./records.ts";

/** What a request names besides its operation. */
export type Subject = Omit<Request, "what" | "service">;

type Answered = {
  readonly rules: readonly Rule[];
  readonly service: string;
  readonly subject: Subject;
  readonly decision: Decision;
};
type Asker = { readonly peer: Peer; readonly last: Map<Operation, Answered> };

const ASKERS: WeakMap<Owner, Asker> = new WeakMap();

export type Question = {
  readonly rules: readonly Rule[];
  /** The user the broker runs as. */
  readonly brokerUid: number;
  readonly who: Owner;
  readonly what: Operation;
  readonly service: string;
  readonly subject: Subject;
};

/** decide() for `who`, as he was when he came. */
export function decideFor({ rules, brokerUid, who, what, service, subject }: Question): Decision {
  const { peer, last } = askerOf(brokerUid, who);
  const known = last.get(what);
  if (known?.rules === rules && known.service === service && isSame(rules, known.subject, subject))
    return known.decision;
  const decision = decide(rules, peer, { what, service, ...subject });
  last.set(what, { rules, service, subject, decision });
  return decision;
}

function askerOf(brokerUid: number, who: Owner): Asker {
  const known = ASKERS.get(who);
  if (known?.peer.brokerUid === brokerUid) return known;
  const asker: Asker = { peer: { ...who, brokerUid }, last: new Map() };
  ASKERS.set(who, asker);
  return asker;
}

function isSame(rules: readonly Rule[], one: Subject, other: Subject): boolean {
  return one.target === other.target && isSameBundle(rules, one.fds, other.fds);
}

/** Alike in all that these rules look at. */
function isSameBundle(rules: readonly Rule[], one: Subject["fds"], other: Subject["fds"]): boolean {
  if (one === undefined || other === undefined || one.length !== other.length) return one === other;
  for (const fact of factsNamedBy(rules))
    for (let index = 0; index < one.length; index++)
      if (!isSameFact(one[index]?.[fact], other[index]?.[fact])) return false;
  return true;
}

function isSameFact(one: FdFacts[keyof FdFacts], other: FdFacts[keyof FdFacts]): boolean {
  return one === other || (typeof one === "object" && String(one) === String(other)); // seals are a list
}

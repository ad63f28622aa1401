/** One function for each key of a rule: does it speak of this peer and this request? A key that is missing always does. */
import { matchesAny } from "./glob.ts";
import { FD_CRITERIA, matchesFds } from "./match-fd.ts";
import type { Criteria, Peer, Request, Rule, Subject } from "./types.ts";

export type CriterionName = keyof Criteria;
/** "unknown": the kernel does not say, for instance the executable of another user's process. */
export type Verdict = "yes" | "no" | "unknown";
type Criterion = (rule: Rule, peer: Peer, request: Request) => Verdict;

export const CRITERIA: readonly (readonly [CriterionName, Criterion])[] = [
  ["action", ({ criteria: { action } }, _, { what }) => yesNo(action === undefined || action.includes(what))],
  ["service", ({ criteria: { service } }, _, request) => yesNo(matchesAny(service, request.service))],
  [
    "uid",
    ({ criteria: { uid } }, peer, request) =>
      yesNo(uid === undefined || uid.some((one) => isMeant(one, peer, request))),
  ],
  [
    "gid",
    ({ criteria: { gid } }, peer) =>
      yesNo(gid === undefined || gid.some((one) => one === peer.gid || peer.groups.includes(one))),
  ],
  ["exe", ({ criteria: { exe } }, peer) => matchesKnown(exe, peer.exe)],
  [
    "unit",
    ({ criteria: { unit } }, { cgroup }) =>
      unit === undefined ? "yes" : cgroup === "" ? matchesKnown(unit, "") : yesNo(matchesAny(unit, unitOf(cgroup))),
  ],
  ["cgroup", ({ criteria: { cgroup } }, peer) => matchesKnown(cgroup, peer.cgroup)],
  ["engine", ({ criteria: { engine } }, { context }) => yesNo(matchesContext(engine, context?.engine))],
  ["app", ({ criteria: { app } }, { context }) => yesNo(matchesContext(app, context?.app))],
  ["instance", ({ criteria: { instance } }, { context }) => yesNo(matchesContext(instance, context?.instance))],
  ...FD_CRITERIA.map(({ key }, index): (typeof CRITERIA)[number] => [
    key,
    (rule, _, request) => yesNo(rule.criteria[key] === undefined || matchesFds(index, rule, request)),
  ]),
];

function yesNo(value: boolean): Verdict {
  return value ? "yes" : "no";
}

function matchesKnown(globs: readonly string[] | undefined, text: string): Verdict {
  if (globs === undefined) return "yes";
  return text === "" ? "unknown" : yesNo(matchesAny(globs, text));
}

function matchesContext(globs: readonly string[] | undefined, text: string | undefined): boolean {
  return globs === undefined || (text !== undefined && matchesAny(globs, text));
}

function isMeant(subject: Subject, { uid, brokerUid, context }: Peer, { target }: Request): boolean {
  if (subject === "any") return true;
  if (subject === "owner") return context === undefined && (uid === brokerUid || uid === 0);
  if (subject === "same") return target !== undefined && uid === target.uid && isSameContext(context, target.context);
  return uid === subject;
}

function isSameContext(one: Peer["context"], other: Peer["context"]): boolean {
  if (one === undefined || other === undefined) return one === other;
  return one.engine === other.engine && one.app === other.app && one.instance === other.instance;
}

/** The systemd unit that a cgroup belongs to, "" for none: the innermost part that is one, slices apart. */
export function unitOf(cgroup: string): string {
  const parts = cgroup.split("/");
  return parts.findLast((part) => /\.(service|scope|socket|mount|swap)$/.test(part)) ?? "";
}

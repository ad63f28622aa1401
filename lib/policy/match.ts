/** One function for each key of a rule: does it speak of this peer and this request? A key that is missing always does. */
import { matchGlob } from "./glob.ts";
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
  ["fd", (rule, _, request) => yesNo(matchesFds(rule, request))],
];

function yesNo(value: boolean): Verdict {
  return value ? "yes" : "no";
}

function matchesAny(globs: readonly string[] | undefined, text: string): boolean {
  return globs === undefined || globs.some((glob) => matchGlob(glob, text));
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

/** Allowed when each of them is named, refused when one of them is. Before the descriptors are known, who may relay
 *  something under a name may open it, and is asked again when they come. */
function matchesFds({ effect, criteria: { fd } }: Rule, { what, fds }: Request): boolean {
  if (fd === undefined) return true;
  if (fds === undefined) return effect === "allow" && (what === "offer" || what === "take");
  return effect === "allow" ? fds.every((type) => matchesAny(fd, type)) : fds.some((type) => matchesAny(fd, type));
}

/** The systemd unit that a cgroup belongs to, "" for none: the innermost part that is one, slices apart. */
export function unitOf(cgroup: string): string {
  const parts = cgroup.split("/");
  return parts.findLast((part) => /\.(service|scope|socket|mount|swap)$/.test(part)) ?? "";
}

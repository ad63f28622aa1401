/** By which rights something was done that is listed: for people, in the words of "shmlink run --grant". Pure. */
import { describeGrant, type Grant, type GrantSet, type Right } from "./grants.ts";
import type { Owner } from "./records.ts";

/** "own" for who needs no grant; else what stood for it then, and how much more did. */
export type Backing = "own" | { readonly grants: readonly Grant[]; readonly leftOut: number };

/** Mostly it is one. They are kept with each channel, and written down for the next broker. */
const MAX_KEPT = 4;

export function backingOf({ grants }: Owner, rights: readonly Right[], name: string): Backing {
  if (grants === undefined) return "own";
  const found = grants.matching(rights, name);
  return { grants: found.slice(0, MAX_KEPT), leftOut: Math.max(0, found.length - MAX_KEPT) };
}

/** Whose they are: a user's or a context's own, as far as the policy goes, or those of a grant.
 *  @param backing  undefined where an older broker did not write it down
 *  @param maxBytes  for the list of grants */
export function rightsText(
  { context, grants }: Owner,
  backing: Backing | undefined,
  maxBytes: number,
): object | undefined {
  if (backing === undefined) return undefined;
  if (backing === "own") return { from: context === undefined ? "user" : "context" };
  return { from: "grant", connection: grants?.connection, ...listBacking(backing, maxBytes) };
}

function listBacking({ grants, leftOut }: Exclude<Backing, "own">, maxBytes: number): object {
  const { texts, missing } = cutGrants(grants, maxBytes);
  return { grants: texts, ...(missing + leftOut === 0 ? {} : { leftOut: missing + leftOut }) };
}

/** What a minted connection has, and what was taken from it. @param maxBytes  for each of the lists */
export function grantsText(grants: GrantSet, maxBytes: number): object {
  const [has, lost] = [cutGrants(grants.grants, maxBytes), cutGrants(grants.revoked, maxBytes)];
  const missing = has.missing + lost.missing;
  return {
    grants: has.texts,
    revoked: lost.texts,
    ...(missing === 0 ? {} : { leftOut: missing }),
    ...(grants.isCutAbove ? { revokedAbove: true } : {}),
  };
}

type CutGrants = { readonly texts: readonly string[]; readonly missing: number };

/** As many as there is room for. */
function cutGrants(grants: readonly Grant[], maxBytes: number): CutGrants {
  const texts: string[] = [];
  let room = maxBytes;
  for (const text of grants.map(describeGrant)) {
    room -= text.length + '"",'.length;
    if (room >= 0) texts.push(text);
  }
  return { texts, missing: grants.length - texts.length };
}

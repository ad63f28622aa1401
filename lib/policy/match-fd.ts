/** What rules say of descriptors: one function for each key, about one descriptor. */
import type { FdFacts } from "./fd-facts.ts";
import { matchesAny } from "./glob.ts";
import type { Criteria, Request, Rule } from "./types.ts";

type FdCriterion = {
  readonly key: keyof Criteria;
  readonly fact: keyof FdFacts;
  /** A key that is missing fits; a fact that is missing fits no key. */
  readonly fits: (criteria: Criteria, fd: FdFacts) => boolean;
};

export const FD_CRITERIA: readonly FdCriterion[] = [
  { key: "fd", fact: "type", fits: ({ fd }, { type }) => matchesAny(fd, type) },
  { key: "family", fact: "family", fits: (criteria, { family }) => isAmong(criteria.family, family) },
  { key: "access", fact: "access", fits: (criteria, { access }) => isAmong(criteria.access, access) },
  {
    key: "seals",
    fact: "seals",
    fits: ({ seals: wanted }, { seals }) => wanted === undefined || wanted.every((seal) => seals?.includes(seal)),
  },
  {
    key: "minSizeBytes",
    fact: "sizeBytes",
    fits: ({ minSizeBytes: least }, { sizeBytes = Number.NaN }) => least === undefined || sizeBytes >= least,
  },
  {
    key: "maxSizeBytes",
    fact: "sizeBytes",
    fits: ({ maxSizeBytes: most }, { sizeBytes = Number.NaN }) => most === undefined || sizeBytes <= most,
  },
  {
    key: "exporter",
    fact: "exporter",
    fits: (criteria, { exporter }) =>
      criteria.exporter === undefined || (exporter !== undefined && matchesAny(criteria.exporter, exporter)),
  },
];

function isAmong<T>(wanted: readonly T[] | undefined, found: T | undefined): boolean {
  return wanted === undefined || (found !== undefined && wanted.includes(found));
}

/** Allowed when each descriptor fits, refused when one of them does: that one fits all that the rule says of descriptors,
 *  so a deny asks here for the keys up to this one together. Before the descriptors are known, who may relay something
 *  under a name may open it, and is asked again when they come.
 *  @param index  in FD_CRITERIA */
export function matchesFds(index: number, { effect, criteria }: Rule, { what, fds }: Request): boolean {
  const asked = effect === "allow" ? FD_CRITERIA.slice(index, index + 1) : FD_CRITERIA.slice(0, index + 1);
  if (fds === undefined) return effect === "allow" && (what === "offer" || what === "take");
  const fitsAll = (fd: FdFacts): boolean => asked.every(({ fits }) => fits(criteria, fd));
  return effect === "allow" ? fds.every(fitsAll) : fds.some(fitsAll);
}

const NAMED: WeakMap<readonly Rule[], readonly (keyof FdFacts)[]> = new WeakMap();

/** What a decision of these rules can depend on. The type is always among it, because refusals name it. */
export function factsNamedBy(rules: readonly Rule[]): readonly (keyof FdFacts)[] {
  let named = NAMED.get(rules);
  if (named === undefined) {
    const isNamed = ({ key, fact }: FdCriterion): boolean =>
      fact === "type" || rules.some(({ criteria }) => criteria[key] !== undefined);
    named = [...new Set(FD_CRITERIA.filter(isNamed).map(({ fact }) => fact))];
    NAMED.set(rules, named);
  }
  return named;
}

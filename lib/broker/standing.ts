/** Whether things still stand for the rights that they need: a revocation ends them a moment later (handlers/grant.ts). */
import type { Right } from "./grants.ts";
import type { Owner } from "./records.ts";

/** How often something had been revoked when it was last found to stand. */
const CHECKED: WeakMap<object, number> = new WeakMap();

/** @param record  what stands for the right to `name` */
export function stands(record: object, { grants }: Owner, right: Right, name: string): boolean {
  if (grants === undefined) return true;
  const { timesRevoked } = grants;
  if (timesRevoked === 0 || CHECKED.get(record) === timesRevoked) return true;
  if (!grants.allows(right, name)) return false;
  CHECKED.set(record, timesRevoked);
  return true;
}

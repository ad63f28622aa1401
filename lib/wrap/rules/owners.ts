/** Whom owner= and group= mean. Looked up once for all: a directory service may take its time, which is the start's to
 *  wait for, and not a trapped call's. */
import { findGroup, findUser } from "../../config/users.ts";
import { RuleError } from "./parse.ts";
import type { Rule } from "./types.ts";

/** chown(2): one more, -1, leaves it as it is. */
const LARGEST_ID = 0xfffffffe;

const known: Map<string, number | undefined> = new Map();

/** A user by name or number. @returns undefined for one that there is not */
export function ownerId(name: string): number | undefined {
  return idOf(`user ${name}`, name, findUser);
}

export function groupId(name: string): number | undefined {
  return idOf(`group ${name}`, name, findGroup);
}

function idOf(key: string, name: string, find: (name: string) => number | undefined): number | undefined {
  if (/^\d+$/.test(name)) return Number(name) > LARGEST_ID ? undefined : Number(name);
  if (!known.has(key)) known.set(key, find(name));
  return known.get(key);
}

/** The rule itself. @throws RuleError when it names nobody */
export function checkOwners(rule: Rule): Rule {
  const { owner, group } = rule;
  if (owner !== undefined && ownerId(owner) === undefined)
    throw new RuleError(`Unknown owner "${owner}": a name or number of a user is wanted`);
  if (group !== undefined && groupId(group) === undefined)
    throw new RuleError(`Unknown group "${group}": a name or number of a group is wanted`);
  return rule;
}

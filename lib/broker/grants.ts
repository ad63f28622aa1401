/**
 * The authority of a minted connection: rights on names. It can be divided and taken away, never grown: every use is
 * checked up the whole line of connections that it was minted from, so what is revoked anywhere is gone below. Pure.
 */
import { matchGlob } from "../policy/glob.ts";
import { SHMLINK_MANAGER_V1_RIGHTS } from "../protocol/shmlink-v1.gen.ts";

export type Right = keyof typeof SHMLINK_MANAGER_V1_RIGHTS;
export type Grant = { readonly rights: number; readonly name: string };

/**
 * Connections in a line, each minted from the one before. Every use is checked at each of them, and their grants are kept
 * for as long as the last one is there, whichever of the others are closed.
 */
export const MAX_DEPTH = 16;

/** In such a line together, so that no single question takes long. */
export const MAX_IN_LINE = 128;

export class GrantSet {
  readonly #parent: GrantSet | undefined;
  /** 1 where the connection that mints is judged by the policy alone. */
  readonly depth: number;
  #grants: Grant[] = [];
  #timesRevoked = 0;
  readonly #revoked: Map<string, number> = new Map();
  /** The connection that has it, as in listings, once there is one. */
  connection: number | undefined;

  /** @param parent  of the connection that mints; undefined when that one is judged by the policy alone */
  constructor(parent: GrantSet | undefined) {
    this.#parent = parent;
    this.depth = (parent?.depth ?? 0) + 1;
  }

  get grants(): readonly Grant[] {
    return this.#grants;
  }

  /** What was taken from this connection itself. */
  get revoked(): readonly Grant[] {
    return [...this.#revoked].map(([name, rights]) => ({ rights, name }));
  }

  /** How many they are, with those of the connections that it was minted from: each use is checked against all of them. */
  get inLine(): number {
    return this.#grants.length + (this.#parent?.inLine ?? 0);
  }

  /** Another number when something was taken away since, here or above. */
  get timesRevoked(): number {
    return this.#timesRevoked + (this.#parent?.timesRevoked ?? 0);
  }

  /** Whether something was taken from one that it was minted from, at whatever distance. */
  get isCutAbove(): boolean {
    const parent = this.#parent;
    return parent !== undefined && (parent.#revoked.size > 0 || parent.isCutAbove);
  }

  /** @returns false, and nothing is added, when the one who grants does not have it all or may not pass it on */
  add({ rights, name }: Grant): boolean {
    const grant = { rights: withDirections(rights), name };
    if (this.#parent?.mayPassOn(grant) === false) return false;
    this.#grants.push(grant);
    return true;
  }

  mayPassOn({ rights, name }: Grant): boolean {
    const needed = rights | SHMLINK_MANAGER_V1_RIGHTS.delegate;
    const covers = this.#grants.some((own) => (own.rights & needed) === needed && coversName(own.name, name));
    return covers && this.#parent?.mayPassOn({ rights, name }) !== false;
  }

  allows(right: Right, name: string): boolean {
    const bit = SHMLINK_MANAGER_V1_RIGHTS[right];
    const own = this.#grants.some((grant) => (grant.rights & bit) !== 0 && matchGlob(grant.name, name));
    return own && this.#parent?.allows(right, name) !== false;
  }

  /** Those that have something of these rights for the name. */
  matching(rights: readonly Right[], name: string): Grant[] {
    const bits = rights.reduce((all, right) => all | SHMLINK_MANAGER_V1_RIGHTS[right], 0);
    return this.#grants.filter((grant) => (grant.rights & bits) !== 0 && matchGlob(grant.name, name));
  }

  /** Takes rights away. @param name  as it was added, "" for every one @returns what went */
  revoke(rights: number, name: string): Grant[] {
    const gone: Grant[] = [];
    this.#grants = this.#grants.flatMap((grant) => {
      if (name !== "" && grant.name !== name) return grant;
      if ((grant.rights & rights) !== 0) gone.push({ rights: grant.rights & rights, name: grant.name });
      const left = grant.rights & ~rights;
      return left === 0 ? [] : { rights: left, name: grant.name };
    });
    if (gone.length > 0) this.#timesRevoked += 1;
    if (this.connection === undefined) return gone; // nobody has it yet: nothing was taken from anybody
    for (const each of gone) this.#revoked.set(each.name, (this.#revoked.get(each.name) ?? 0) | each.rights);
    return gone;
  }

  /** Whether it was minted from `other`, at whatever distance, or is it. */
  descendsFrom(other: GrantSet): boolean {
    return this === other || this.#parent?.descendsFrom(other) === true;
  }
}

/** Channels have both directions unless one is named. Said in full here, so that less is never passed on as more. */
function withDirections(rights: number): number {
  const { dial, listen, send, receive } = SHMLINK_MANAGER_V1_RIGHTS;
  const opens = (rights & (dial | listen)) !== 0;
  return opens && (rights & (send | receive)) === 0 ? rights | send | receive : rights;
}

/** As "shmlink run" takes it: dial,send,receive:db */
export function describeGrant({ rights, name }: Grant): string {
  const known = Object.entries(SHMLINK_MANAGER_V1_RIGHTS);
  return `${known.flatMap(([right, bit]) => ((rights & bit) === 0 ? [] : right)).join(",")}:${name}`;
}

/** Whether every name of the pattern `inner` is one of `outer`. Says no where it cannot be sure. */
export function coversName(outer: string, inner: string): boolean {
  if (outer === inner) return true;
  const isPattern = /[*?]/.test(inner);
  // No name has a "*" or "?" in it, so only a "*" of `outer` can stand for one; a "?" must not.
  return (!isPattern || !outer.includes("?")) && matchGlob(outer, inner);
}

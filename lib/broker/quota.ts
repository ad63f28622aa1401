/**
 * What each user, and each context of a user, holds, against the limits of the configuration. Pure counting; a charge is
 * all or nothing.
 *
 * Two limits stand in the way of a charge. The one of the configuration is per user or context. The other is the share:
 * of what the broker has in all (three times what one may hold), a charge may take no more than half of what is left, so
 * however many users come and fill up, something remains for the next one. Contexts have a whole of their own, so they take
 * nothing from users: all contexts of a user may take half of what those of other users leave, and each of them half of what
 * the others leave of that. No share is less than what one thing needs, but for a context when all of its user's have theirs.
 */
import type { ContextIdentity } from "../policy/types.ts";
import { ringFileBytes } from "../ring/layout.ts";
import { contextName } from "../util/context-word.ts";

export type Limits = {
  readonly maxSessionsPerUser: number;
  readonly maxServicesPerUser: number;
  readonly maxChannelsPerUser: number;
  readonly maxListenersPerUser: number;
  readonly maxSharedBytesPerUser: number;
  readonly maxFdsPerUser: number;
  readonly maxObjectsPerUser: number;
  readonly maxQueuedBytesPerUser: number;
  readonly maxContextsPerUser: number;
  /** Of the rings that the least share has room for. */
  readonly defaultCapacityBytes: number;
};

export type Charge<T = number> = { readonly [R in Resource]?: T };

export type Resource =
  | "sessions"
  | "services"
  | "channels"
  | "listeners"
  | "sharedBytes"
  | "fds"
  | "objects"
  | "queuedBytes"
  | "contexts";
/** `sum` of all the others: 0 when nothing is held. What is counted here is counted in `within`, too. */
type Usage = Record<Resource | "sum", number> & { readonly within: Usage | undefined };

/** Who is charged. */
export type Account = { readonly uid: number; readonly context: ContextIdentity | undefined };

const LIMIT_OF: Readonly<Record<Resource, Exclude<keyof Limits, "defaultCapacityBytes">>> = {
  sessions: "maxSessionsPerUser",
  services: "maxServicesPerUser",
  channels: "maxChannelsPerUser",
  listeners: "maxListenersPerUser",
  sharedBytes: "maxSharedBytesPerUser",
  fds: "maxFdsPerUser",
  objects: "maxObjectsPerUser",
  queuedBytes: "maxQueuedBytesPerUser",
  contexts: "maxContextsPerUser",
};
/** Where the resource's name is no English. */
const WORDS: Charge<string> = {
  sharedBytes: "bytes of shared memory",
  fds: "descriptors",
  queuedBytes: "bytes waiting to be read",
};
/** Of the limit: all that users have outside of their contexts. */
const WHOLE_OF_USERS = 3;
/** Of the limit: all that contexts have. Half of it, for the first user, is twice the limit for the rule between his contexts,
 *  so that one can have all of its own, and what is kept. */
const WHOLE_OF_CONTEXTS = 5;
/** The part of what the contexts of a user have together that is kept for those of them that have the least share: a fifth. */
const KEPT = 5;
/** A share is not less, but for a context when all of its user's have theirs: two connections can open a channel with each other, and one can offer something. */
const LEAST: Readonly<Record<Exclude<Resource, "sharedBytes">, number>> = {
  sessions: 2,
  services: 2,
  channels: 2,
  listeners: 1,
  fds: 4,
  objects: 256,
  queuedBytes: 65_536,
  contexts: 1,
};
/** The two rings of a channel. */
const LEAST_RINGS = 2;

function nothing(within?: Usage): Usage {
  return {
    sessions: 0,
    services: 0,
    channels: 0,
    listeners: 0,
    sharedBytes: 0,
    fds: 0,
    objects: 0,
    queuedBytes: 0,
    contexts: 0,
    sum: 0,
    within,
  };
}

export class Quota {
  /** May change while things are held: what is above a lower limit stays, and nothing comes on top of it. */
  limits: Limits;
  readonly #usage: Map<string, Usage> = new Map();
  /** What the contexts of each user have together. */
  readonly #together: Map<number, Usage> = new Map();
  readonly #users: Usage = nothing();
  readonly #contexts: Usage = nothing();

  constructor(limits: Limits) {
    this.limits = limits;
  }

  /** Whether everything that was charged has been given back. */
  get isEmpty(): boolean {
    return this.#usage.size + this.#together.size + this.#users.sum + this.#contexts.sum === 0;
  }

  /** @returns undefined, or the sentence that says which limit stands in the way */
  charge(who: Account, charge: Charge): string | undefined {
    const usage = this.#usageOf(who);
    for (const name in charge) {
      const resource = name as Resource; // the keys of a Charge
      const refusal = this.#refusal(who, usage, resource, charge[resource] ?? 0);
      if (refusal !== undefined) return refusal;
    }
    this.#add(who, usage, charge, 1);
    return undefined;
  }

  /** Charges what is there already, whatever the limits. */
  restore(who: Account, charge: Charge): void {
    this.#add(who, this.#usageOf(who), charge, 1);
  }

  /** Gives back what charge() took. */
  release(who: Account, charge: Charge): void {
    const usage = this.#usage.get(accountKey(who));
    if (usage === undefined) throw new Error(`Cannot release quota of ${describe(who)}: nothing was charged`);
    this.#add(who, usage, charge, -1);
  }

  #usageOf(who: Account): Usage {
    const known = this.#usage.get(accountKey(who));
    if (known !== undefined) return known;
    if (who.context === undefined) return nothing(this.#users);
    return nothing(this.#together.get(who.uid) ?? nothing(this.#contexts));
  }

  #refusal(who: Account, usage: Usage, resource: Resource, more: number): string | undefined {
    if (more === 0) return undefined;
    const key = LIMIT_OF[resource];
    const limit = this.limits[key];
    const wanted = usage[resource] + more;
    const share = this.#shareOf(who, usage, resource);
    if (wanted <= limit && wanted <= share) return undefined;
    const words = WORDS[resource] ?? resource;
    const wish = `${describe(who)} would have ${wanted} ${wanted === 1 ? words.replace(/s$/, "") : words}`;
    if (wanted > limit) return `${wish}, limits.${key} is ${limit}`;
    const others = (who.context === undefined ? this.#users : this.#contexts)[resource] - usage[resource];
    return `${wish}, its share of limits.${key} is ${share} while others hold ${others}`;
  }

  /** What part `who` has of what he may have now. */
  partHeld(who: Account, resource: Resource): number {
    const usage = this.#usageOf(who);
    return usage[resource] / Math.min(this.limits[LIMIT_OF[resource]], this.#shareOf(who, usage, resource));
  }

  #shareOf(who: Account, usage: Usage, resource: Resource): number {
    return who.context === undefined ? this.#shareOfUser(usage, resource) : this.#shareOfContext(usage, resource);
  }

  #shareOfUser(usage: Usage, resource: Resource): number {
    const others = this.#users[resource] - usage[resource];
    return Math.max(half(this.limits[LIMIT_OF[resource]] * WHOLE_OF_USERS - others), this.#least(resource));
  }

  /** Of what it has together with the user's other contexts, which is never exceeded: identities cost nothing. */
  #shareOfContext(usage: Usage, resource: Resource): number {
    const together = usage.within?.[resource] ?? 0;
    const least = this.#least(resource);
    const ofOtherUsers = this.#contexts[resource] - together;
    const all = Math.max(half(this.limits[LIMIT_OF[resource]] * WHOLE_OF_CONTEXTS - ofOtherUsers), least);
    const left = all - (together - usage[resource]);
    return Math.max(Math.min(Math.max(half(left - Math.floor(all / KEPT)), least), left), 0);
  }

  #least(resource: Resource): number {
    const least =
      resource === "sharedBytes" ? LEAST_RINGS * ringFileBytes(this.limits.defaultCapacityBytes) : LEAST[resource];
    return Math.min(least, this.limits[LIMIT_OF[resource]]);
  }

  #add(who: Account, usage: Usage, charge: Charge, sign: 1 | -1): void {
    const wasEmpty = usage.sum === 0;
    for (const name in charge) {
      const resource = name as Resource; // the keys of a Charge
      const amount = sign * (charge[resource] ?? 0);
      if (amount === 0) continue;
      for (let one: Usage | undefined = usage; one !== undefined; one = one.within) {
        one[resource] += amount;
        one.sum += amount;
      }
    }
    if (wasEmpty !== (usage.sum === 0)) this.#keep(who, usage);
  }

  /** Who holds nothing is forgotten. */
  #keep(who: Account, usage: Usage): void {
    const { within } = usage;
    if (usage.sum === 0) this.#usage.delete(accountKey(who));
    else this.#usage.set(accountKey(who), usage);
    if (who.context === undefined || within === undefined) return;
    if (within.sum === 0) this.#together.delete(who.uid);
    else this.#together.set(who.uid, within);
  }
}

function half(left: number): number {
  return Math.ceil(left / 2);
}

/** Of those who were asked about: it is asked for with every message. */
const KEYS: WeakMap<Account, string> = new WeakMap();

/** One text for each account. */
export function accountKey(who: Account): string {
  let key = KEYS.get(who);
  if (key === undefined) {
    key = makeKey(who);
    KEYS.set(who, key);
  }
  return key;
}

function makeKey({ uid, context }: Account): string {
  return context === undefined ? String(uid) : JSON.stringify([uid, context.engine, context.app, context.instance]);
}

function describe({ uid, context }: Account): string {
  return context === undefined ? `user ${uid}` : `context ${contextName(context)}`;
}

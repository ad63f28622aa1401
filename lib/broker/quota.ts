/**
 * What each user, and each context of a user, holds, against the limits of the configuration. Pure counting; a charge is
 * all or nothing.
 *
 * Two limits stand in the way of a charge. The one of the configuration is per user or context. The other is the share:
 * of what the broker has in all (three times what one may hold), a charge may take no more than half of what is left, so
 * however many users come and fill up, something remains for the next one.
 */
import type { ContextIdentity } from "../policy/types.ts";

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
/** `sum` of all the others: 0 when nothing is held. */
type Usage = Record<Resource | "sum", number>;

/** Who is charged. */
export type Account = { readonly uid: number; readonly context: ContextIdentity | undefined };

const LIMIT_OF: Readonly<Record<Resource, keyof Limits>> = {
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
/** How many users can fill their limits before the share rule begins to matter. */
const FULL_USERS = 3;

function nothing(): Usage {
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
  };
}

export class Quota {
  /** May change while things are held: what is above a lower limit stays, and nothing comes on top of it. */
  limits: Limits;
  readonly #usage: Map<string, Usage> = new Map();
  readonly #total: Usage = nothing();

  constructor(limits: Limits) {
    this.limits = limits;
  }

  /** Whether everything that was charged has been given back. */
  get isEmpty(): boolean {
    return this.#usage.size === 0 && this.#total.sum === 0;
  }

  /** @returns undefined, or the sentence that says which limit stands in the way */
  charge(who: Account, charge: Charge): string | undefined {
    const key = accountKey(who);
    const usage = this.#usage.get(key) ?? nothing();
    for (const name in charge) {
      const resource = name as Resource; // the keys of a Charge
      const refusal = this.#refusal(who, resource, usage[resource], charge[resource] ?? 0);
      if (refusal !== undefined) return refusal;
    }
    if (usage.sum === 0) this.#usage.set(key, usage);
    this.#add(usage, charge, 1);
    if (usage.sum === 0) this.#usage.delete(key);
    return undefined;
  }

  /** Charges what is there already, whatever the limits. */
  restore(who: Account, charge: Charge): void {
    const key = accountKey(who);
    const usage = this.#usage.get(key) ?? nothing();
    if (usage.sum === 0) this.#usage.set(key, usage);
    this.#add(usage, charge, 1);
    if (usage.sum === 0) this.#usage.delete(key);
  }

  #refusal(who: Account, resource: Resource, held: number, more: number): string | undefined {
    if (more === 0) return undefined;
    const key = LIMIT_OF[resource];
    const limit = this.limits[key];
    const wanted = held + more;
    const words = WORDS[resource] ?? resource;
    const wish = `${describe(who)} would have ${wanted} ${wanted === 1 ? words.replace(/s$/, "") : words}`;
    if (wanted > limit) return `${wish}, limits.${key} is ${limit}`;
    const others = this.#total[resource] - held;
    const share = Math.max(Math.ceil((limit * FULL_USERS - others) / 2), 1);
    if (wanted <= share) return undefined;
    return `${wish}, its share of limits.${key} is ${share} while others hold ${others}`;
  }

  /** Gives back what charge() took. */
  release(who: Account, charge: Charge): void {
    const key = accountKey(who);
    const usage = this.#usage.get(key);
    if (usage === undefined) throw new Error(`Cannot release quota of ${describe(who)}: nothing was charged`);
    this.#add(usage, charge, -1);
    if (usage.sum === 0) this.#usage.delete(key);
  }

  #add(usage: Usage, charge: Charge, sign: 1 | -1): void {
    for (const name in charge) {
      const resource = name as Resource; // the keys of a Charge
      const amount = sign * (charge[resource] ?? 0);
      if (amount === 0) continue;
      usage[resource] += amount;
      usage.sum += amount;
      this.#total[resource] += amount;
      this.#total.sum += amount;
    }
  }
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
  return context === undefined ? `user ${uid}` : `context ${context.engine}/${context.app}/${context.instance}`;
}

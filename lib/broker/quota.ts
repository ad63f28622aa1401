/** What each user holds, against the limits of the configuration. Pure counting; a charge is all or nothing. */

export type Limits = {
  readonly maxSessionsPerUser: number;
  readonly maxServicesPerUser: number;
  readonly maxChannelsPerUser: number;
  readonly maxListenersPerUser: number;
  readonly maxSharedBytesPerUser: number;
};

export type Charge = {
  readonly sessions?: number;
  readonly services?: number;
  readonly channels?: number;
  readonly listeners?: number;
  readonly sharedBytes?: number;
};

type Resource = keyof Charge;
type Usage = Record<Resource, number>;

const RESOURCES: readonly Resource[] = ["sessions", "services", "channels", "listeners", "sharedBytes"];
const LIMIT_OF: Record<Resource, keyof Limits> = {
  sessions: "maxSessionsPerUser",
  services: "maxServicesPerUser",
  channels: "maxChannelsPerUser",
  listeners: "maxListenersPerUser",
  sharedBytes: "maxSharedBytesPerUser",
};

export class Quota {
  /** May change while things are held: what is above a lower limit stays, and nothing comes on top of it. */
  limits: Limits;
  readonly #usage: Map<number, Usage> = new Map();

  constructor(limits: Limits) {
    this.limits = limits;
  }

  /** Charges `uid`. @returns undefined, or the sentence that says which limit stands in the way */
  charge(uid: number, charge: Charge): string | undefined {
    const usage = this.#usage.get(uid) ?? { sessions: 0, services: 0, channels: 0, listeners: 0, sharedBytes: 0 };
    for (const resource of RESOURCES) {
      const limit = this.limits[LIMIT_OF[resource]];
      const wanted = usage[resource] + (charge[resource] ?? 0);
      if ((charge[resource] ?? 0) > 0 && wanted > limit) {
        return `user ${uid} would have ${wanted} ${resource}, limits.${LIMIT_OF[resource]} is ${limit}`;
      }
    }
    for (const resource of RESOURCES) usage[resource] += charge[resource] ?? 0;
    this.#usage.set(uid, usage);
    return undefined;
  }

  /** Gives back what charge() took. */
  release(uid: number, charge: Charge): void {
    const usage = this.#usage.get(uid);
    if (usage === undefined) throw new Error(`Cannot release quota of user ${uid}: nothing was charged`);
    for (const resource of RESOURCES) usage[resource] -= charge[resource] ?? 0;
    if (RESOURCES.every((resource) => usage[resource] === 0)) this.#usage.delete(uid);
  }
}

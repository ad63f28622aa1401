import { expect, test } from "bun:test";
import { type Account, type Charge, Quota, type Resource } from "../../../lib/broker/quota.ts";
import { ringFileBytes } from "../../../lib/ring/layout.ts";

const limits = {
  maxSessionsPerUser: 1,
  maxServicesPerUser: 2,
  maxChannelsPerUser: 2,
  maxListenersPerUser: 1,
  maxSharedBytesPerUser: 100,
  maxFdsPerUser: 8,
  maxObjectsPerUser: 100,
  maxQueuedBytesPerUser: 100,
  maxContextsPerUser: 2,
  defaultCapacityBytes: 4096,
};

function user(uid: number): Account {
  return { uid, context: undefined };
}

function context(uid: number, instance: number): Account {
  return { uid, context: { engine: "podman", app: "shop", instance: String(instance) } };
}

/** Takes as much as there is. @returns how much */
function fill(quota: Quota, who: Account, resource: Resource = "fds", step = 1): number {
  let held = 0;
  while (quota.charge(who, { [resource]: step }) === undefined) held += step;
  return held;
}

function fillContexts(quota: Quota, uid: number, count: number): number[] {
  return Array.from({ length: count }, (_, instance) => fill(quota, context(uid, instance)));
}

test("charge() takes all or nothing", () => {
  const quota = new Quota(limits);
  expect(quota.charge(user(7), { channels: 1, sharedBytes: 101 })).toContain("limits.maxSharedBytesPerUser is 100");
  expect(quota.charge(user(7), { channels: 2, sharedBytes: 100 })).toBeUndefined();
});

test("charge() counts each user alone", () => {
  const quota = new Quota(limits);
  expect(quota.charge(user(7), { sessions: 1 })).toBeUndefined();
  expect(quota.charge(user(7), { sessions: 1 })).toContain("user 7 would have 2 sessions");
  expect(quota.charge(user(8), { sessions: 1 })).toBeUndefined();
});

test("release() makes room again", () => {
  const quota = new Quota(limits);
  quota.charge(user(7), { services: 2 });
  quota.release(user(7), { services: 1 });
  expect(quota.charge(user(7), { services: 1 })).toBeUndefined();
});

test("charge() says in words what there would be too many of", () => {
  const said = (most: Partial<typeof limits>, charge: Charge): string | undefined =>
    new Quota({ ...limits, ...most }).charge(user(7), charge);
  expect([
    said({ maxServicesPerUser: 0 }, { services: 1 }),
    said({ maxSharedBytesPerUser: 4096 }, { sharedBytes: 8192 }),
    said({ maxQueuedBytesPerUser: 9 }, { queuedBytes: 10 }),
  ]).toEqual([
    "user 7 would have 1 service, limits.maxServicesPerUser is 0",
    "user 7 would have 8192 bytes of shared memory, limits.maxSharedBytesPerUser is 4096",
    "user 7 would have 10 bytes waiting to be read, limits.maxQueuedBytesPerUser is 9",
  ]);
});

test("release() of what was never charged is our bug", () => {
  expect(() => new Quota(limits).release(user(7), { services: 1 })).toThrow("nothing was charged");
});

test("a context is an account of its own, apart from its user and from other instances", () => {
  const quota = new Quota(limits);
  const shop = { uid: 7, context: { engine: "podman", app: "shop", instance: "1" } };
  for (const who of [user(7), shop]) expect(quota.charge(who, { sessions: 1 })).toBeUndefined();
  expect(quota.charge(shop, { sessions: 1 })).toContain("context podman/shop/1 would have 2 sessions");
  expect(quota.charge({ uid: 7, context: { ...shop.context, instance: "2" } }, { sessions: 1 })).toBeUndefined();
});

test("however many users fill up, the next one gets something", () => {
  const quota = new Quota({ ...limits, maxFdsPerUser: 1000 });
  const granted = Array.from({ length: 40 }, (_, uid) => fill(quota, user(uid)));
  expect(granted.slice(0, 4)).toEqual([1000, 1000, 500, 250]);
  expect(Math.min(...granted)).toBe(4);
  expect(quota.charge(user(40), { fds: 5 })).toMatch(
    /would have 5 descriptors, its share of limits\.maxFdsPerUser is 4 while others hold \d+/,
  );
});

test("the contexts of a user take nothing from users, him among them", () => {
  const quota = new Quota({ ...limits, maxFdsPerUser: 1000 });
  for (const uid of [0, 1]) fillContexts(quota, uid, 300);
  expect([0, 1, 2, 3].map((uid) => fill(quota, user(uid)))).toEqual([1000, 1000, 500, 250]);
});

test("the contexts of a user leave those of the next user half, and each leaves the next one something", () => {
  const quota = new Quota({ ...limits, maxFdsPerUser: 1000 });
  const [first, second, third] = [0, 1, 2].map((uid) => fillContexts(quota, uid, 400));
  expect(first?.slice(0, 12)).toEqual([1000, 500, 250, 125, 63, 31, 16, 8, 4, 4, 4, 4]);
  expect(second?.slice(0, 3)).toEqual([500, 250, 125]);
  expect(third?.slice(0, 3)).toEqual([250, 125, 63]);
  for (const granted of [first, second, third]) expect(Math.min(...(granted?.slice(0, 30) ?? []))).toBe(4);
});

test("names of contexts cost nothing, so however many a user makes up, together they have no more", () => {
  const quota = new Quota({ ...limits, maxFdsPerUser: 1000 });
  const granted = fillContexts(quota, 0, 1000);
  expect(granted.reduce((sum, held) => sum + held)).toBe(2500);
  expect(quota.charge(context(0, 1000), { fds: 1 })).toBe(
    "context podman/shop/1000 would have 1 descriptor, its share of limits.maxFdsPerUser is 0 while others hold 2500",
  );
  expect(fill(quota, context(1, 0))).toBe(500);
});

test("the least share of shared memory has room for the two rings of a channel", () => {
  const pair = 2 * ringFileBytes(4096);
  const quota = new Quota({ ...limits, maxSharedBytesPerUser: 8 * pair });
  const granted = Array.from({ length: 40 }, (_, uid) => fill(quota, user(uid), "sharedBytes", pair / 2));
  expect(granted.slice(0, 6)).toEqual([8, 8, 4, 2, 1, 1].map((pairs) => pairs * pair));
  expect(Math.min(...granted)).toBe(pair);
});

test("what contexts have had is there again when they give it back", () => {
  const quota = new Quota({ ...limits, maxFdsPerUser: 1000 });
  const granted = fillContexts(quota, 0, 9);
  for (const [instance, fds] of granted.entries()) quota.release(context(0, instance), { fds });
  expect(quota.isEmpty).toBe(true);
  expect(fillContexts(quota, 0, 9)).toEqual(granted);
});

test("a limit that is lowered leaves what is held, and refuses what would come on top", () => {
  const quota = new Quota(limits);
  quota.charge(user(7), { fds: 8 });
  quota.limits = { ...limits, maxFdsPerUser: 4 };
  expect(quota.charge(user(7), { fds: 1 })).toContain("limits.maxFdsPerUser is 4");
  quota.release(user(7), { fds: 5 });
  expect(quota.charge(user(7), { fds: 1 })).toBeUndefined();
});

test("partHeld() is of the limit, or of the share where that is less", () => {
  const quota = new Quota(limits);
  expect(quota.partHeld(user(1), "fds")).toBe(0);
  quota.charge(user(1), { fds: 2 });
  expect(quota.partHeld(user(1), "fds")).toBe(1 / 4);
  quota.charge(user(2), { fds: 8 });
  quota.charge(user(3), { fds: 6 });
  expect(quota.partHeld(user(1), "fds")).toBe(2 / 5);
});

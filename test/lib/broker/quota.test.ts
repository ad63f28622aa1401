import { expect, test } from "bun:test";
import { type Account, type Charge, Quota } from "../../../lib/broker/quota.ts";

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
};

function user(uid: number): Account {
  return { uid, context: undefined };
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
  const granted: number[] = [];
  for (let uid = 0; uid < 40; uid++) {
    let held = 0;
    while (quota.charge(user(uid), { fds: 1 }) === undefined) held += 1;
    granted.push(held);
  }
  expect(granted.slice(0, 4)).toEqual([1000, 1000, 500, 250]);
  expect(Math.min(...granted)).toBeGreaterThan(0);
  expect(quota.charge(user(40), { fds: 2 })).toMatch(
    /would have 2 descriptors, its share of limits\.maxFdsPerUser is 1 while others hold \d+/,
  );
});

test("a limit that is lowered leaves what is held, and refuses what would come on top", () => {
  const quota = new Quota(limits);
  quota.charge(user(7), { fds: 8 });
  quota.limits = { ...limits, maxFdsPerUser: 4 };
  expect(quota.charge(user(7), { fds: 1 })).toContain("limits.maxFdsPerUser is 4");
  quota.release(user(7), { fds: 5 });
  expect(quota.charge(user(7), { fds: 1 })).toBeUndefined();
});

import { expect, test } from "bun:test";
import { Quota } from "../../../lib/broker/quota.ts";

const limits = {
  maxSessionsPerUser: 1,
  maxServicesPerUser: 2,
  maxChannelsPerUser: 2,
  maxListenersPerUser: 1,
  maxSharedBytesPerUser: 100,
};

test("charge() takes all or nothing", () => {
  const quota = new Quota(limits);
  expect(quota.charge(7, { channels: 1, sharedBytes: 101 })).toContain("limits.maxSharedBytesPerUser is 100");
  expect(quota.charge(7, { channels: 2, sharedBytes: 100 })).toBeUndefined();
});

test("charge() counts each user alone", () => {
  const quota = new Quota(limits);
  expect(quota.charge(7, { sessions: 1 })).toBeUndefined();
  expect(quota.charge(7, { sessions: 1 })).toContain("user 7 would have 2 sessions");
  expect(quota.charge(8, { sessions: 1 })).toBeUndefined();
});

test("release() makes room again", () => {
  const quota = new Quota(limits);
  quota.charge(7, { services: 2 });
  quota.release(7, { services: 1 });
  expect(quota.charge(7, { services: 1 })).toBeUndefined();
});

test("release() of what was never charged is our bug", () => {
  expect(() => new Quota(limits).release(7, { services: 1 })).toThrow("nothing was charged");
});

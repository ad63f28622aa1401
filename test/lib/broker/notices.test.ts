import { expect, test } from "bun:test";
import { Notices } from "../../../lib/broker/notices.ts";

test("all who were told something hear it by one timer, once, and the next is set only when there is more", () => {
  const timers: (() => void)[] = [];
  const heard: string[] = [];
  const notices = new Notices((delayMs, callback) => {
    expect(delayMs).toBeGreaterThan(0);
    timers.push(callback);
  });
  const told = (name: string): { sendQueued(): void } => ({ sendQueued: () => void heard.push(name) });
  const [one, other] = [told("one"), told("other")];
  for (const session of [one, other, one]) notices.watch(session);
  expect([timers.length, heard.length]).toEqual([1, 0]);
  timers[0]?.();
  expect([timers.length, heard]).toEqual([1, ["one", "other"]]);
  notices.watch(other);
  expect(timers.length).toBe(2);
  timers[1]?.();
  expect(heard).toEqual(["one", "other", "other"]);
});

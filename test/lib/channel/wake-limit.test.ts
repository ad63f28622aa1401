/** A doorbell that rings for nothing is left alone for longer and longer; one that rings for something never is. */
import { expect, spyOn, test } from "bun:test";
import { constants, send } from "../../../ffi/mod.ts";
import { WakeLimit } from "../../../lib/channel/wake-limit.ts";
import { channelPair } from "../../fixtures/channel/set-up.ts";
import { expectNoFdLeaks } from "../../helpers/fd-leak.ts";

expectNoFdLeaks();

test("woken() asks for rests that grow to 16 ms after 16 wake-ups for nothing, and for none once something was done", () => {
  const limit = new WakeLimit();
  const rests = Array.from({ length: 24 }, () => limit.woken(5));
  expect(rests.slice(0, 17)).toEqual(new Array<number>(17).fill(0));
  expect(rests.slice(17)).toEqual([1, 2, 4, 8, 16, 16, 16]);
  expect(limit.woken(6)).toBe(0);
  for (let progress = 0; progress < 1000; progress++) expect(limit.woken(progress)).toBe(0);
});

test("a reactor is told to rest by a peer that floods, and not any more when a message came", () => {
  const [left, right] = channelPair();
  const byte = new Uint8Array(1);
  const rings = (times: number): number => {
    for (let time = 0; time < times; time++) {
      send(right.doorbellFd, byte, constants.MSG_DONTWAIT);
      expect(left.drainDoorbell()).toBe("open");
    }
    return left.doorbellRestMs;
  };
  expect(rings(17)).toBe(0);
  expect(rings(1)).toBe(1);
  expect(rings(10)).toBe(16);
  right.send(byte);
  expect(left.tryReceive()?.data).toEqual(byte);
  expect(rings(1)).toBe(0);
  for (const channel of [left, right]) channel.close();
});

test("who sleeps while the doorbell is flooded is woken by a message, and by the end, all the same", async () => {
  const [left, right] = channelPair();
  const flood = right.doorbellFd;
  const byte = new Uint8Array(1);
  for (const round of [1, 2]) {
    const pending = left.receiveAsync();
    while (left.doorbellRestMs < 8) {
      send(flood, byte, constants.MSG_DONTWAIT);
      await new Promise((resolve) => setImmediate(resolve));
    }
    if (round === 1) right.send(byte);
    else right.close();
    expect((await pending)?.data).toEqual(round === 1 ? byte : undefined);
  }
  expect(left.peerEnded).toBe("finished");
  left.close();
});

test("a flood that nobody waits for costs a bounded number of turns of the loop", async () => {
  const [left, right] = channelPair();
  const flood = right.doorbellFd;
  const byte = new Uint8Array(1);
  const pending = left.receiveAsync(); // from now on the loop reads the doorbell
  right.send(byte);
  await pending;
  const woken = spyOn(WakeLimit.prototype, "woken");
  const timers = spyOn(process.getBuiltinModule("node:timers"), "setTimeout");
  let rings = 0;
  let elapsedMs = 0;
  for (const start = performance.now(); elapsedMs < 300 || rings <= 200 || timers.mock.calls.length <= 3; rings++) {
    send(flood, byte, constants.MSG_DONTWAIT);
    await new Promise((resolve) => setImmediate(resolve));
    elapsedMs = performance.now() - start; // longer than asked for where we are held up
  }
  const wakes = woken.mock.calls.length;
  const rests = timers.mock.results.map(({ value }) => value as NodeJS.Timeout);
  woken.mockRestore();
  timers.mockRestore();
  expect(wakes).toBeGreaterThan(16);
  expect(wakes).toBeLessThan(22 + elapsedMs / 8); // 16 at once, then one each 16 ms
  expect(rests.filter((rest) => rest.hasRef())).toEqual([]); // none keeps the process from its end
  for (const channel of [left, right]) channel.close();
});

/** What the broker keeps of a ring to show its counters, and in which order it lets go of it. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { addSeals, closeNow, OwnedFd } from "../../../ffi/mod.ts";
import { RingCounters } from "../../../lib/broker/young-rings.ts";
import { createRing } from "../../../lib/channel/memfd.ts";
import { RING_SEALS } from "../../../lib/channel/seals.ts";
import { expectNoFdLeaks } from "../../helpers/fd-leak.ts";

expectNoFdLeaks();

const NAME = "shmlink:counters-test";

function isMapped(): boolean {
  return readFileSync("/proc/self/maps", "utf8").includes(NAME);
}

/** @returns whether it was mapped when its descriptor was closed */
function closingOf(capacity: number): { readonly counters: RingCounters; readonly closed: boolean[] } {
  const closed: boolean[] = [];
  const ring = createRing({ channelId: 1, side: 0, capacity, name: NAME });
  addSeals(ring, RING_SEALS);
  const fd = new OwnedFd(ring.take(), (number) => {
    closed.push(isMapped());
    closeNow(number);
  });
  return { counters: new RingCounters(fd, capacity), closed };
}

test("RingCounters gives a small ring's descriptor back for a mapping, and both of a ring that was never mapped", () => {
  const { counters, closed } = closingOf(1 << 20);
  counters.settle();
  expect([closed, isMapped()]).toEqual([[true], true]);
  expect(counters.read().messages).toBe(0);
  counters.close();
  expect([closed, isMapped()]).toEqual([[true], false]);
  const young = closingOf(1 << 20);
  young.counters.close();
  expect(young.closed).toEqual([false]);
});

test("RingCounters lets go of a large ring's mapping before its descriptor, so that closing it gives the memory back", () => {
  const { counters, closed } = closingOf(1 << 23);
  counters.settle();
  counters.settle();
  expect([closed, isMapped()]).toEqual([[], true]);
  expect(counters.read().messages).toBe(0);
  counters.close();
  counters.close();
  expect([closed, isMapped()]).toEqual([[false], false]);
});

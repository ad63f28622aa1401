/** What no honest broker would hand out as the other side's ring is refused, and neither mapped nor kept open. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { calls } from "../../../ffi/calls.ts";
import { ChannelSetup } from "../../../lib/channel/channel.ts";
import { ProtocolError } from "../../../lib/errors.ts";
import { FORGED_RINGS, forgedRing } from "../../fixtures/channel/forged.ts";
import { rawSides } from "../../fixtures/channel/set-up.ts";
import { expectNoFdLeaks } from "../../helpers/fd-leak.ts";

expectNoFdLeaks();

function setUp(): ChannelSetup {
  const [ours, theirs] = rawSides(4096);
  theirs.ring.close();
  theirs.doorbell.close();
  return new ChannelSetup(ours.ring, ours.doorbell);
}

/** Calls of mmap(2) for a file in this process. */
let mapped = 0;
const { mmap } = calls;
beforeAll(() => {
  const counting: typeof mmap = (...args) => {
    if (Number(args[4]) >= 0) mapped++;
    return mmap(...args);
  };
  Object.defineProperty(calls, "mmap", { value: counting });
});
afterAll(() => {
  Object.defineProperty(calls, "mmap", { value: mmap });
});

const isMapped = (): boolean => readFileSync("/proc/self/maps", "latin1").includes("memfd:shmlink:forged");

describe("complete() refuses", () => {
  for (const [name, { message, make }] of Object.entries(FORGED_RINGS)) {
    test(`${name}, tells why, and never maps it`, () => {
      const setup = setUp();
      const before = mapped;
      expect(() => setup.complete(make())).toThrow(ProtocolError);
      expect(() => setup.complete(make())).toThrow(message);
      expect(mapped).toBe(before);
      expect(isMapped()).toBe(false);
      setup.close();
    });
  }

  test("nothing that is right", () => {
    const setup = setUp();
    const before = mapped;
    const channel = setup.complete(forgedRing());
    expect(mapped).toBe(before + 1);
    expect(isMapped()).toBe(true);
    channel.close();
    expect(isMapped()).toBe(false);
  });
});

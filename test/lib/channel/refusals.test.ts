/** What no honest broker would hand out as the other side's ring is refused, and neither mapped nor kept open. */
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
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

const isMapped = (): boolean => readFileSync("/proc/self/maps", "latin1").includes("memfd:shmlink:forged");

describe("complete() refuses", () => {
  for (const [name, { message, make }] of Object.entries(FORGED_RINGS)) {
    test(`${name}, tells why, and leaves it unmapped`, () => {
      const setup = setUp();
      expect(() => setup.complete(make())).toThrow(ProtocolError);
      expect(() => setup.complete(make())).toThrow(message);
      expect(isMapped()).toBe(false);
      setup.close();
    });
  }

  test("nothing that is right", () => {
    const channel = setUp().complete(forgedRing());
    expect(isMapped()).toBe(true);
    channel.close();
    expect(isMapped()).toBe(false);
  });
});

/** A visitor of receiveEach() that receives by itself: no byte is lost or comes twice. */
import { describe, expect, test } from "bun:test";
import type { Channel } from "../../../lib/channel/channel.ts";
import { channelPair } from "../../fixtures/channel/set-up.ts";
import { expectNoFdLeaks } from "../../helpers/fd-leak.ts";

expectNoFdLeaks();

const COUNT = 12;
const message = (value: number): Uint8Array<ArrayBuffer> => new Uint8Array(8).fill(value);
type Receive = (channel: Channel) => Uint8Array | undefined;

function into(receive: (channel: Channel, bytes: Uint8Array) => number): Receive {
  return (channel) => {
    const bytes = new Uint8Array(8);
    return receive(channel, bytes) > 0 ? bytes : undefined;
  };
}

/** What a visitor may call, and what it has taken by that; the bytes of a message may be taken in pieces. */
const NESTED: Record<string, Receive> = {
  tryReceive: (channel) => channel.tryReceive()?.data,
  receiveInto: into((channel, bytes) => channel.receiveInto(bytes, 0)),
  tryReceiveInto: into((channel, bytes) => channel.tryReceiveInto(bytes)),
  receivePacked: into((channel, bytes) => (channel.armReceive() ? 0 : channel.receivePacked(bytes, 8))),
  receiveEach: into((channel, bytes) => (channel.armReceive() ? 0 : channel.receiveEach(bytes, 1, () => undefined))),
  "tryReadBytes of a part": (channel) => channel.tryReadBytes(3),
  "readableSpan, nothing released": (channel) => void channel.readableSpan(),
  "readableSpan, a part released": (channel) => {
    const bytes = channel.readableSpan()?.slice(0, 5);
    channel.releaseSpan(bytes?.length ?? 0);
    return bytes;
  },
  "readableSpan, all released": (channel) => {
    const bytes = channel.readableSpan()?.slice();
    channel.releaseSpan(bytes?.length ?? 0);
    return bytes;
  },
  peek: (channel) => void channel.peek(),
  "peek and release": (channel) => {
    const bytes = channel.peek()?.slice();
    if (bytes !== undefined) channel.release();
    return bytes;
  },
  armReceive: (channel) => void channel.armReceive(),
};

describe("no byte is lost or comes twice when a visitor of receiveEach() calls", () => {
  for (const [name, nested] of Object.entries(NESTED)) {
    for (const every of [1, 3]) {
      test(`${name}, at each ${every}. message`, () => {
        const [left, right] = channelPair(4096, { trust: "trusted" });
        using _l = left;
        using _r = right;
        for (let value = 1; value <= COUNT; value++) left.send(message(value));
        left.end();
        const received: number[] = [];
        const bytes = new Uint8Array(8);
        let visits = 0;
        const visit = (length: number): void => {
          received.push(...bytes.subarray(0, length));
          if (++visits % every === 0) received.push(...(nested(right) ?? []));
        };
        while (right.receiveEach(bytes, COUNT, visit) > 0);
        const sent = Array.from({ length: COUNT }, (_, index) => [...message(index + 1)]).flat();
        expect(received).toEqual(sent);
        expect(right.peerEnded).toBe("finished");
        expect(left.unreadBytes).toBe(0);
      });
    }
  }
});

test("receiveEach() that could not visit anything takes nothing", () => {
  const [left, right] = channelPair();
  using _l = left;
  using _r = right;
  left.send(message(1));
  expect(() => right.receiveEach(new Uint8Array(8), 4, undefined as never)).toThrow(TypeError);
  for (const max of [0, -1, Number.NaN]) {
    expect(() => right.receiveEach(new Uint8Array(8), max, () => undefined)).toThrow(RangeError);
  }
  expect(right.tryReceive()?.data).toEqual(message(1));
});

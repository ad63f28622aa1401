/** What is released of a span is what it had, however it is asked for. */
import { describe, expect, test } from "bun:test";
import type { Channel } from "../../../lib/channel/channel.ts";
import { channelPair } from "../../fixtures/channel/set-up.ts";
import { expectNoFdLeaks } from "../../helpers/fd-leak.ts";

expectNoFdLeaks();

const message = (value: number): Uint8Array<ArrayBuffer> => new Uint8Array(8).fill(value);

describe("releaseSpan() moves nothing", () => {
  const wrong: Record<string, (channel: Channel) => void> = {
    "without a span": (channel) => channel.releaseSpan(8),
    "twice for one span": (channel) => {
      channel.readableSpan();
      channel.releaseSpan(8);
      channel.releaseSpan(8);
    },
    "of a span whose message was received meanwhile": (channel) => {
      channel.readableSpan();
      channel.tryReceive();
      channel.armReceive(); // finds the next one
      channel.releaseSpan(8);
    },
    "with more than the span": (channel) => {
      channel.readableSpan();
      channel.releaseSpan(9);
    },
    "with more than what is left of it": (channel) => {
      channel.readableSpan();
      channel.releaseSpan(3);
      channel.releaseSpan(6);
    },
    "with a negative number": (channel) => {
      channel.readableSpan();
      channel.releaseSpan(-1);
    },
    "with a part of a byte": (channel) => {
      channel.readableSpan();
      channel.releaseSpan(1.5);
    },
    "with no number": (channel) => {
      channel.readableSpan();
      channel.releaseSpan(Number.NaN);
    },
    "with a string": (channel) => {
      channel.readableSpan();
      channel.releaseSpan("8" as unknown as number);
    },
  };
  const taken: Record<string, number> = {
    "twice for one span": 8,
    "of a span whose message was received meanwhile": 8,
    "with more than what is left of it": 3,
  };
  for (const [name, call] of Object.entries(wrong)) {
    test(name, () => {
      const [left, right] = channelPair();
      using _l = left;
      using _r = right;
      for (let value = 1; value <= 3; value++) left.send(message(value));
      expect(() => call(right)).toThrow(/^Cannot (use|release)/);
      const rest: number[] = [];
      for (let bytes = right.tryReadBytes(100); bytes !== undefined; bytes = right.tryReadBytes(100))
        rest.push(...bytes);
      const sent = [1, 2, 3].flatMap((value) => [...message(value)]);
      expect(rest).toEqual(sent.slice(taken[name] ?? 0));
      left.send(message(4));
      expect(right.tryReceive()?.data).toEqual(message(4));
      right.releaseSpan(0); // what write(2) took when it took nothing
    });
  }
});

import { expect, test } from "bun:test";
import fc from "fast-check";
import { channelPair } from "../../fixtures/channel/set-up.ts";
import { expectNoFdLeaks } from "../../helpers/fd-leak.ts";

expectNoFdLeaks();

const numbered = (from: number, count: number, messageBytes: number): Uint8Array<ArrayBuffer> => {
  const words = new Int32Array((count * messageBytes) / 4);
  for (let index = 0; index < words.length; index++) words[index] = Math.imul(from * 1_000_003 + index, 2_654_435_761);
  return new Uint8Array(words.buffer);
};

test("sendPacked() and receivePacked() lose, repeat and reorder nothing, across the end of the ring", () => {
  const sizes = fc.record({ words: fc.integer({ min: 1, max: 40 }), batch: fc.integer({ min: 1, max: 20 }) });
  fc.assert(
    fc.property(fc.array(sizes, { minLength: 1, maxLength: 30 }), (rounds) => {
      const [left, right] = channelPair(4096);
      using _l = left;
      using _r = right;
      for (const [round, { words, batch }] of rounds.entries()) {
        const messageBytes = words * 4;
        const count = Math.min(batch, Math.floor(3000 / (messageBytes + 16)) || 1);
        const sent = numbered(round, count, messageBytes);
        left.sendPacked(sent, messageBytes);
        const received: number[] = [];
        const into = new Uint8Array(messageBytes * 7);
        while (received.length < sent.length) {
          const some = right.receivePacked(into, messageBytes);
          received.push(...into.subarray(0, some * messageBytes));
        }
        expect(Uint8Array.from(received)).toEqual(sent);
      }
    }),
    { numRuns: 60 },
  );
});

test("packed messages are ordinary messages, with their type", () => {
  const [left, right] = channelPair(4096);
  using _l = left;
  using _r = right;
  left.sendPacked(numbered(1, 3, 8), 8, { type: 9 });
  for (let index = 0; index < 3; index++) {
    expect(right.receive()).toEqual({ type: 9, data: numbered(1, 3, 8).slice(index * 8, index * 8 + 8) });
  }
});

test("receivePacked() refuses a message of another length and leaves it there", () => {
  const [left, right] = channelPair(4096);
  using _l = left;
  using _r = right;
  left.send(new Uint8Array([1, 2, 3]));
  expect(() => right.receivePacked(new Uint8Array(16), 8)).toThrow(/one of 3 came/);
  expect(right.receive()?.data).toEqual(new Uint8Array([1, 2, 3]));
});

test("receivePacked() says 0 at the end", () => {
  const [left, right] = channelPair(4096);
  using _l = left;
  using _r = right;
  left.sendPacked(numbered(1, 1, 8), 8);
  left.end();
  expect([right.receivePacked(new Uint8Array(16), 8), right.receivePacked(new Uint8Array(16), 8)]).toEqual([1, 0]);
});

test("sendPacked() refuses sizes that cannot be packed", () => {
  const [left, right] = channelPair(4096);
  using _l = left;
  using _r = right;
  expect(() => left.sendPacked(new Uint8Array(12), 8)).toThrow(RangeError);
  expect(() => left.sendPacked(new Uint8Array(12), 6)).toThrow(RangeError);
  expect(() => left.sendPacked(new Uint8Array(4096), 4096)).toThrow(RangeError);
  expect(() => left.sendPacked(new Uint8Array(9).subarray(1), 8)).toThrow(RangeError);
  left.close();
  expect(() => left.sendPacked(new Uint8Array(8), 8)).toThrow(/closed/);
});

/** Whatever waits can be given up: by a number of milliseconds, by a signal, by ending. */
import { expect, test } from "bun:test";
import type { Channel } from "../../../lib/channel/channel.ts";
import { ClosedError } from "../../../lib/errors.ts";
import { channelPair } from "../../fixtures/channel/set-up.ts";
import { expectNoFdLeaks } from "../../helpers/fd-leak.ts";

expectNoFdLeaks();

const LARGE = new Uint8Array(10_000); // more than a ring of 4096 holds
const timeout: unknown = expect.objectContaining({ code: "timeout" });

function close(...channels: readonly Channel[]): void {
  for (const channel of channels) channel.close();
}

/** The message before it, then the end, and that it was none. */
function expectVanished(right: Channel): void {
  expect(right.receive()?.data).toEqual(new Uint8Array([7]));
  expect(right.receive()).toBeUndefined();
  expect(right.peerEnded).toBe("vanished");
}

test("a message of several records that gets no room in time closes the channel, and the peer sees its sender vanish", () => {
  for (const give of [
    (left: Channel) => left.send(LARGE, { timeoutMs: 10 }),
    (left: Channel) => left.sendBatch([LARGE], { timeoutMs: 10 }),
  ]) {
    const [left, right] = channelPair(4096);
    left.send(new Uint8Array([7]));
    expect(() => give(left)).toThrow(timeout);
    expect(left.closed).toBe(true);
    expect(() => left.send(LARGE)).toThrow(ClosedError);
    expectVanished(right);
    close(left, right);
  }
});

test("a signal that comes when a message is half sent closes the channel, and gives its reason", async () => {
  const [left, right] = channelPair(4096);
  left.send(new Uint8Array([7]));
  const sending = left.sendAsync(LARGE, { signal: AbortSignal.timeout(10) });
  const after = left.sendAsync(new Uint8Array(1));
  const [given, refused] = await Promise.allSettled([sending, after]);
  expect(given).toMatchObject({ status: "rejected", reason: { name: "TimeoutError" } });
  expect(refused).toMatchObject({ status: "rejected", reason: { code: "closed" } });
  expect(left.closed).toBe(true);
  expectVanished(right);
  close(left, right);
});

test("bytes without boundaries are given up with the channel whole, and what was sent stays", async () => {
  const [left, right] = channelPair(4096);
  expect(() => left.writeBytes(LARGE, 10)).toThrow(timeout);
  const sent = left.unreadBytes;
  expect(sent).toBeGreaterThan(2000);
  await expect(left.writeBytesAsync(LARGE, { signal: AbortSignal.timeout(10) })).rejects.toThrow(
    expect.objectContaining({ name: "TimeoutError" }),
  );
  await expect(left.writeBytesAsync(LARGE, { signal: AbortSignal.abort(new Error("at once")) })).rejects.toThrow(
    "at once",
  );
  await expect(left.writeBytesAsync(LARGE, { timeoutMs: 10 } as object)).rejects.toThrow(TypeError);
  let read = 0;
  for (let some = right.readBytes(4096); some !== undefined; some = right.readBytes(4096, 0)) read += some.length;
  expect(read).toBeGreaterThan(2000);
  left.writeBytes(new Uint8Array([1, 2, 3]));
  expect(right.readBytes(10)).toEqual(new Uint8Array([1, 2, 3]));
  close(left, right);
});

test("each way to receive has a time limit, and says that it was no end", () => {
  const [left, right] = channelPair(4096);
  const into = new Uint8Array(64);
  expect(right.readBytes(10, 5)).toBeUndefined();
  expect(right.receivePacked(into, 8, 5)).toBe(0);
  expect(right.receiveEach(into, 4, () => expect.unreachable(), 5)).toBe(0);
  expect(right.ended).toBe(false);
  left.send(new Uint8Array(8).fill(3));
  expect(right.receivePacked(into, 8, 5)).toBe(1);
  left.send(new Uint8Array(8).fill(4));
  expect(right.receiveEach(into, 4, (length) => expect(length).toBe(8), 5)).toBe(1);
  for (const call of [
    () => right.readBytes(10, Number.NaN),
    () => right.receivePacked(into, 8, Number.NaN),
    () => right.receiveEach(into, 4, () => undefined, Number.NaN),
    () => left.writeBytes(into, Number.NaN),
  ])
    expect(call).toThrow(TypeError);
  close(left, right);
});

test("end() gives up a send that waits for room", async () => {
  const [left, right] = channelPair(4096);
  while (left.trySend(new Uint8Array(1000)));
  const sending = left.sendAsync(new Uint8Array(1000));
  await new Promise((resolve) => setImmediate(resolve));
  left.end();
  await expect(sending).rejects.toThrow(ClosedError);
  close(left, right);
});

test("a view whose memory is transferred takes the channel with it, and the peer is told and not blamed", () => {
  for (const use of ["close", "tryReceive"] as const) {
    const [left, right] = channelPair(4096, { trust: "trusted" });
    left.send(new Uint8Array([1, 2, 3]));
    const view = right.peek() as Uint8Array;
    structuredClone(view.buffer, { transfer: [view.buffer as ArrayBuffer] });
    if (use === "close") right.close();
    else {
      right.release();
      expect(() => right.tryReceive()).toThrow(TypeError);
    }
    expect(right.closed).toBe(true);
    expect(right.violation).toBeUndefined();
    expect(left.drainDoorbell()).toBe("hangup");
    right.close();
    left.close();
  }
});

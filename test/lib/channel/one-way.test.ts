/** A channel with one ring: whatever there is for the other way is refused, and a hostile receiver cannot use it either. */
import { expect, test } from "bun:test";
import { constants, fstat, getSeals, mapShared, SyscallError } from "../../../ffi/mod.ts";
import { type Channel, ChannelSetup } from "../../../lib/channel/channel.ts";
import { sealRing } from "../../../lib/channel/memfd.ts";
import { FailureError, ProtocolError } from "../../../lib/errors.ts";
import { DATA_OFFSET, HEAD, ringMemory, TAIL } from "../../../lib/ring/layout.ts";
import { channelPair, rawSides } from "../../fixtures/channel/set-up.ts";
import { expectNoFdLeaks } from "../../helpers/fd-leak.ts";

expectNoFdLeaks();

const BYTES: Uint8Array = new TextEncoder().encode("hello");

function oneWay(options = {}): readonly [sender: Channel, receiver: Channel] {
  return channelPair(4096, options, 0);
}

async function codeOf(act: () => unknown): Promise<string> {
  try {
    await act();
  } catch (error) {
    return error instanceof FailureError ? error.code : String(error);
  }
  return "none";
}

const SENDS: Record<string, (channel: Channel) => unknown> = {
  send: (channel) => channel.send(BYTES),
  "send without waiting": (channel) => channel.send(BYTES, { timeoutMs: 0 }),
  "send of a long message": (channel) => channel.send(new Uint8Array(100_000)),
  trySend: (channel) => channel.trySend(BYTES),
  "trySend of nothing": (channel) => channel.trySend(new Uint8Array(0)),
  sendBatch: (channel) => channel.sendBatch([BYTES]),
  sendPacked: (channel) => channel.sendPacked(new Uint8Array(8), 4),
  sendAsync: (channel) => channel.sendAsync(BYTES),
  writeBytes: (channel) => channel.writeBytes(BYTES),
  writeBytesAsync: (channel) => channel.writeBytesAsync(BYTES),
  reserve: (channel) => channel.reserve(5),
  commit: (channel) => channel.commit(5),
  writableSpan: (channel) => channel.writableSpan(),
  armSend: (channel) => channel.armSend(1),
  writable: (channel) => channel.writable,
};

const RECEIVES: Record<string, (channel: Channel) => unknown> = {
  receive: (channel) => channel.receive(),
  "receive with a limit": (channel) => channel.receive(0),
  receiveInto: (channel) => channel.receiveInto(new Uint8Array(8)),
  tryReceive: (channel) => channel.tryReceive(),
  tryReceiveInto: (channel) => channel.tryReceiveInto(new Uint8Array(8)),
  tryReceiveNewest: (channel) => channel.tryReceiveNewest(),
  receiveEach: (channel) => channel.receiveEach(new Uint8Array(8), 1, () => undefined),
  receivePacked: (channel) => channel.receivePacked(new Uint8Array(8), 4),
  receiveAsync: (channel) => channel.receiveAsync(),
  "for await": (channel) => channel[Symbol.asyncIterator]().next(),
  readBytes: (channel) => channel.readBytes(8),
  readBytesAsync: (channel) => channel.readBytesAsync(8),
  readableSpan: (channel) => channel.readableSpan(),
  peek: (channel) => channel.peek(),
  release: (channel) => channel.release(),
  armReceive: (channel) => channel.armReceive(),
  readable: (channel) => channel.readable,
};

for (const [name, act] of Object.entries(SENDS)) {
  test(`${name} is refused where the channel has no ring for it`, async () => {
    for (const options of [{}, { whenFull: "drop-new" }] as const) {
      const [sender, receiver] = oneWay(options);
      using _s = sender;
      using _r = receiver;
      expect(await codeOf(() => act(receiver))).toBe("one-way");
      expect(() => receiver.send(BYTES)).toThrow(/^Cannot send on channel "7": it is one-way, this end only receives$/);
      sender.send(BYTES);
      expect(receiver.receive()?.data).toEqual(new Uint8Array(BYTES));
    }
  });
}

for (const [name, act] of Object.entries(RECEIVES)) {
  test(`${name} is refused at the end that only sends, at once`, async () => {
    for (const options of [{}, { whenBehind: "drop-old" }] as const) {
      const [sender, receiver] = oneWay({ ...options, trust: "trusted" });
      using _s = sender;
      using _r = receiver;
      expect(await codeOf(() => act(sender))).toBe("one-way");
      expect(() => sender.receive()).toThrow(/^Cannot receive on channel "7": it is one-way, this end only sends$/);
    }
  });
}

test("a one-way channel carries its direction to the end, with backpressure, and both ends say which it is", async () => {
  const [sender, receiver] = oneWay();
  using _s = sender;
  using _r = receiver;
  expect([sender.direction, receiver.direction]).toEqual(["send", "receive"]);
  expect(receiver.maxRecordBytes).toBeLessThan(0);
  const all = (async () => {
    for (let index = 0; index < 1000; index++) await sender.sendAsync(new Uint8Array(100).fill(index));
    sender.end();
  })();
  let count = 0;
  for await (const { data } of receiver) expect(data[99]).toBe(count++ & 0xff);
  await all;
  expect(count).toBe(1000);
  expect(receiver.ended).toBe(true);
  receiver.end();
  expect(sender.unreadBytes).toBe(0);
});

test("the file of who only receives holds two pages, the second its positions; nobody else can write to it", () => {
  const [left, right] = rawSides(4096, 0);
  using _l = left.ring;
  using _r = right.ring;
  using _a = left.doorbell;
  using _b = right.doorbell;
  expect(fstat(right.ring).sizeBytes).toBe(DATA_OFFSET);
  using own = mapShared(right.ring, DATA_OFFSET, "read-write");
  sealRing(right.ring, 0);
  expect(getSeals(right.ring) & constants.F_SEAL_FUTURE_WRITE).not.toBe(0);
  expect(() => mapShared(right.ring, DATA_OFFSET, "read-write")).toThrow(SyscallError);
  expect(own.buffer.byteLength).toBe(DATA_OFFSET);
});

test("a receiver that claims to have sent something breaks the channel; what it claims to have read too", () => {
  for (const [word, value, act] of [
    [TAIL, 16, (channel: Channel) => channel.tryReceive()],
    [HEAD, 8, (channel: Channel) => channel.unreadBytes],
  ] as const) {
    const [ours, theirs] = rawSides(4096, 0);
    using mapping = mapShared(theirs.ring, DATA_OFFSET, "read-write");
    using ourRing = ours.ring.dup();
    const setup = new ChannelSetup(ours.ring, ours.doorbell);
    for (const ring of [ourRing, theirs.ring]) sealRing(ring);
    using channel = setup.complete(theirs.ring);
    using _d = theirs.doorbell;
    ringMemory(mapping.buffer).words[word] = value;
    if (word === TAIL) expect(() => act(channel)).toThrow(ProtocolError);
    else {
      act(channel);
      expect(() => channel.trySend(BYTES)).toThrow(ProtocolError);
    }
  }
});

test("a channel of which neither side has a ring is refused", () => {
  const [left, right] = rawSides(0);
  using other = right.ring;
  using _d = right.doorbell;
  using setup = new ChannelSetup(left.ring, left.doorbell);
  sealRing(other, 0);
  expect(() => setup.complete(other.dup())).toThrow("neither side has a ring");
});

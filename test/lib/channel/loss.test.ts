/** What is lost when it may be lost, and that it is counted: new messages by the sender, old ones by the receiver. */
import { expect, test } from "bun:test";
import { constants, socketpair } from "../../../ffi/mod.ts";
import { type Channel, type ChannelOptions, ChannelSetup } from "../../../lib/channel/channel.ts";
import { createRing, directionStats, RingStats, sealRing } from "../../../lib/channel/memfd.ts";
import { ClosedError } from "../../../lib/errors.ts";
import { expectNoFdLeaks } from "../../helpers/fd-leak.ts";

expectNoFdLeaks();

const CAPACITY = 4096;
const RECORDS = CAPACITY / 64; // of 56 bytes of payload

type Ends = {
  readonly sender: Channel;
  readonly receiver: Channel;
  lost(): [dropped: number, skipped: number];
  close(): void;
};

type Options = { readonly sender?: ChannelOptions; readonly receiver?: ChannelOptions; readonly capacity?: number };

function ends({ capacity = CAPACITY, ...options }: Options): Ends {
  const [bell, otherBell] = socketpair(constants.SOCK_STREAM | constants.SOCK_NONBLOCK);
  const rings = ([0, 1] as const).map((side) => createRing({ channelId: 1, side, capacity }));
  const [near, far] = rings.map((ring) => ring.dup());
  const stats = rings.map((ring) => new RingStats(ring));
  const setups = rings.map((ring, side) => new ChannelSetup(ring, side === 0 ? bell : otherBell));
  if (near === undefined || far === undefined) throw new TypeError("Two rings were made");
  for (const ring of [near, far]) sealRing(ring);
  const sender = setups[0]?.complete(far, options.sender) as Channel;
  const receiver = setups[1]?.complete(near, options.receiver) as Channel;
  return {
    sender,
    receiver,
    lost: () => {
      const [ours, theirs] = stats.map((each) => each.read());
      if (ours === undefined || theirs === undefined) throw new TypeError("Two rings were made");
      const { dropped, skipped } = directionStats(ours, theirs);
      return [dropped, skipped];
    },
    close: () => {
      sender.close();
      receiver.close();
      for (const each of stats) each.close();
    },
  };
}

function numbered(number: number): Uint8Array {
  const bytes = new Uint8Array(56);
  new DataView(bytes.buffer).setUint32(0, number, true);
  return bytes;
}

function numbers(channel: Channel): number[] {
  const found: number[] = [];
  for (let message = channel.tryReceive(); message !== undefined; message = channel.tryReceive())
    found.push(new DataView(message.data.buffer).getUint32(0, true));
  return found;
}

const upTo = (count: number, from = 0): number[] => Array.from({ length: count }, (_, index) => from + index);

test("drop-new: send() never waits, says what was dropped, and keeps what was there first", () => {
  const { sender, receiver, lost, close } = ends({ sender: { whenFull: "drop-new" } });
  const sent = upTo(100).map((number) => sender.send(numbered(number)));
  expect(sent.filter((each) => each)).toHaveLength(RECORDS);
  expect(lost()).toEqual([100 - RECORDS, 0]);
  expect(numbers(receiver)).toEqual(upTo(RECORDS));
  expect(sender.send(numbered(100))).toBe(true);
  expect(numbers(receiver)).toEqual([100]);
  close();
});

test("drop-new: batches and packed messages are dropped one by one, large ones whole", async () => {
  const { sender, receiver, lost, close } = ends({ sender: { whenFull: "drop-new" } });
  sender.sendBatch(upTo(RECORDS + 5).map(numbered));
  expect(lost()).toEqual([5, 0]);
  expect(numbers(receiver)).toEqual(upTo(RECORDS));
  const packed = new Uint8Array(56 * (RECORDS + 7));
  sender.sendPacked(packed, 56);
  expect(lost()).toEqual([12, 0]);
  expect(await sender.sendAsync(numbered(1))).toBe(false);
  expect(sender.send(new Uint8Array(3 * CAPACITY))).toBe(false);
  expect(lost()).toEqual([14, 0]);
  expect(numbers(receiver)).toHaveLength(RECORDS);
  const received = receiver.receiveAsync();
  expect(await sender.sendAsync(new Uint8Array(3 * CAPACITY))).toBe(true);
  expect((await received)?.data).toHaveLength(3 * CAPACITY);
  close();
});

test("drop-new: a stream loses nothing", async () => {
  const { sender, receiver, lost, close } = ends({ sender: { whenFull: "drop-new" } });
  const bytes = new Uint8Array(10 * CAPACITY).map((_, index) => index % 251);
  const written = sender.writeBytesAsync(bytes).then(() => sender.end());
  const parts: Uint8Array[] = [];
  for await (const part of receiver.readable) parts.push(part);
  await written;
  expect(Buffer.concat(parts).equals(Buffer.from(bytes))).toBe(true);
  expect(lost()).toEqual([0, 0]);
  close();
});

test("drop-new: a sender that never waits still notices that the receiver has gone", () => {
  const { sender, receiver, close } = ends({ sender: { whenFull: "drop-new" } });
  receiver.close();
  expect(() => {
    for (;;) sender.send(numbered(1));
  }).toThrow(ClosedError);
  close();
});

test("drop-old: a receiver that is behind goes on with the newest quarter, and the sender finds room", () => {
  const { sender, receiver, lost, close } = ends({ receiver: { whenBehind: "drop-old" } });
  for (const number of upTo(RECORDS)) sender.send(numbered(number));
  const kept = numbers(receiver);
  expect(kept).toEqual(upTo(RECORDS / 4, RECORDS - RECORDS / 4));
  expect(lost()).toEqual([0, RECORDS - kept.length]);
  for (const number of upTo(RECORDS / 2)) sender.send(numbered(number));
  expect(numbers(receiver)).toEqual(upTo(RECORDS / 2)); // not behind
  close();
});

test("drop-old holds for every way to receive, and spares messages of several records", () => {
  const into = new Uint8Array(56 * RECORDS);
  const ways: Record<string, (receiver: Channel) => number> = {
    receive: (receiver) => (receiver.receive() === undefined ? 0 : 1),
    receiveInto: (receiver) => (receiver.receiveInto(into) === 56 ? 1 : 0),
    receiveEach: (receiver) => receiver.receiveEach(into, RECORDS, () => undefined),
    receivePacked: (receiver) => receiver.receivePacked(into, 56),
  };
  for (const receive of Object.values(ways)) {
    const { sender, receiver, lost, close } = ends({ receiver: { whenBehind: "drop-old" } });
    for (const number of upTo(RECORDS)) sender.send(numbered(number));
    expect(receive(receiver)).toBeGreaterThan(0);
    expect(lost()).toEqual([0, RECORDS - RECORDS / 4]);
    close();
  }
});

test("drop-old throws away once a call, however fast the sender fills the ring again", () => {
  const ways: Record<string, (receiver: Channel) => unknown> = {
    tryReceive: (receiver) => receiver.tryReceive(),
    tryReceiveNewest: (receiver) => receiver.tryReceiveNewest(),
  };
  for (const [way, receive] of Object.entries(ways)) {
    const { sender, receiver, close } = ends({ receiver: { whenBehind: "drop-old" } });
    const empty = new Uint8Array(0);
    const { consumer } = receiver as unknown as { consumer: { skipOld(most: number, keep: number): number } };
    const skipOld = consumer.skipOld.bind(consumer);
    let calls = 0;
    consumer.skipOld = (most, keep) => {
      calls++;
      const skipped = skipOld(most, keep);
      while (sender.trySend(empty));
      return skipped;
    };
    while (sender.trySend(empty));
    receive(receiver);
    expect([way, calls]).toEqual([way, 1]);
    close();
  }
});

test("drop-old throws no bytes of a stream away", async () => {
  const ways: Record<string, (receiver: Channel) => Promise<Uint8Array | undefined>> = {
    readBytesAsync: (receiver) => receiver.readBytesAsync(1 << 16),
    readBytes: async (receiver) => receiver.readBytes(1 << 16),
    readableSpan: async (receiver) => {
      const bytes = receiver.readableSpan()?.slice();
      if (bytes !== undefined) receiver.releaseSpan(bytes.length);
      return bytes;
    },
    readable: async (receiver) => {
      const reader = receiver.readable.getReader();
      const { value } = await reader.read();
      reader.releaseLock();
      return value;
    },
  };
  const written = new Uint8Array(CAPACITY - 1024).map((_, index) => index % 251);
  for (const [way, read] of Object.entries(ways)) {
    const { sender, receiver, lost, close } = ends({ receiver: { whenBehind: "drop-old" } });
    for (let at = 0; at < written.length; at += 64) sender.writeBytes(written.subarray(at, at + 56));
    const got: number[] = [];
    const all = (written.length / 64) * 56;
    while (got.length < all) got.push(...((await read(receiver)) ?? []));
    expect([way, got]).toEqual([way, Array.from(written).filter((_, index) => index % 64 < 56)]);
    expect(lost()).toEqual([0, 0]);
    close();
  }
});

test("drop-old takes a few calls for a ring of very many messages, and gets there", () => {
  const { sender, receiver, lost, close } = ends({ capacity: 1 << 21, receiver: { whenBehind: "drop-old" } });
  const records = (1 << 21) / 8;
  while (sender.trySend(new Uint8Array(0)));
  receiver.tryReceive();
  expect(lost()).toEqual([0, 1 << 16]);
  let received = 1;
  for (const most = records / 4 + 8; receiver.tryReceive() !== undefined; received++) {
    if (received > most) break;
  }
  expect(lost()[1] + received).toBe(records);
  expect(lost()[1]).toBeGreaterThanOrEqual((records / 4) * 3 - 8);
  close();
});

test("drop-old spares messages of several records", async () => {
  const { sender, receiver, lost, close } = ends({ receiver: { whenBehind: "drop-old" } });
  const large = new Uint8Array(4 * CAPACITY).map((_, index) => index % 251);
  const sent = sender.sendAsync(large);
  await Promise.resolve();
  expect((await receiver.receiveAsync())?.data).toEqual(large);
  await sent;
  expect(lost()).toEqual([0, 0]);
  close();
});

test("tryReceiveNewest() gives the last message and counts those before it", () => {
  const { sender, receiver, lost, close } = ends({});
  expect(receiver.tryReceiveNewest()).toBeUndefined();
  for (const number of upTo(20)) sender.send(numbered(number));
  const newest = receiver.tryReceiveNewest();
  expect(Array.from(newest?.data ?? [])).toEqual(Array.from(numbered(19)));
  expect(lost()).toEqual([0, 19]);
  expect(receiver.tryReceiveNewest()).toBeUndefined();
  close();
});

test("tryReceiveNewest() gives the last whole one before the beginning of one that is not there yet", async () => {
  const { sender, receiver, lost, close } = ends({});
  for (const number of upTo(3)) sender.send(numbered(number));
  const large = new Uint8Array(2 * CAPACITY).fill(7);
  const sent = sender.sendAsync(large);
  await Promise.resolve();
  expect(Array.from(receiver.tryReceiveNewest()?.data ?? [])).toEqual(Array.from(numbered(2)));
  expect(lost()).toEqual([0, 2]);
  expect((await receiver.receiveAsync())?.data).toEqual(large);
  await sent;
  close();
});

test("tryReceiveNewest() looks past the end of the ring, for the last of more messages than a call receives", () => {
  const { sender, receiver, lost, close } = ends({ capacity: 1 << 20 });
  let sent = 0;
  for (let round = 0; round < 3; round++) {
    let last = 0;
    for (; sender.trySend(numbered(sent)); sent++) last = sent;
    const newest = receiver.tryReceiveNewest();
    expect(Array.from(newest?.data ?? [])).toEqual(Array.from(numbered(last)));
    expect(lost()).toEqual([0, sent - round - 1]);
  }
  close();
});

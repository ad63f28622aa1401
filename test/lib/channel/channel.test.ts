import { expect, test } from "bun:test";
import { readFileSync, statSync } from "node:fs";
import fc from "fast-check";
import {
  constants,
  type Mapping,
  mapShared,
  memfdCreate,
  type OwnedFd,
  read,
  send,
  socketpair,
} from "../../../ffi/mod.ts";
import { type Channel, ChannelSetup } from "../../../lib/channel/channel.ts";
import { createRing, directionStats, RingStats, sealRing } from "../../../lib/channel/memfd.ts";
import { SocketDoorbell } from "../../../lib/channel/socket-doorbell.ts";
import { ClosedError, FailureError, ProtocolError } from "../../../lib/errors.ts";
import { RingConsumer } from "../../../lib/ring/consumer.ts";
import {
  DATA_OFFSET,
  FIRST,
  HEAD,
  LAST,
  type RingMemory,
  ringFileBytes,
  ringMemory,
  TAIL,
} from "../../../lib/ring/layout.ts";
import { channelPair, rawSides, spawnPeer } from "../../fixtures/channel/set-up.ts";
import { expectNoFdLeaks } from "../../helpers/fd-leak.ts";
import { BUN } from "../../helpers/runtimes.ts";

expectNoFdLeaks();

const bytes = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(text);
const text = (data: Uint8Array | undefined): string => new TextDecoder().decode(data ?? new Uint8Array(0));
const pattern = (length: number): Uint8Array => Uint8Array.from({ length }, (_, index) => (index * 31) ^ (index >> 8));

test("send() and receive() carry a message and its type both ways", () => {
  const [left, right] = channelPair();
  using _l = left;
  using _r = right;
  left.send(bytes("ping"), { type: 65535 });
  expect(right.receive()).toEqual({ type: 65535, data: bytes("ping") });
  right.sendBatch([bytes("a"), bytes(""), bytes("c")]);
  expect([left.receive(), left.receive(), left.receive()].map((message) => text(message?.data))).toEqual([
    "a",
    "",
    "c",
  ]);
});

test("receiveEach() visits what is there, large messages too, and says 0 at the end", () => {
  const [left, right] = channelPair(4096);
  using _l = left;
  using _r = right;
  const into = new Uint8Array(3000);
  const lengths: number[] = [];
  left.sendBatch([pattern(10), pattern(20), pattern(0)], { type: 3 });
  while (lengths.length < 3) right.receiveEach(into, 2, (length, type) => lengths.push(length * 10 + type));
  expect(lengths).toEqual([103, 203, 3]);
  left.send(pattern(3000));
  expect(right.receiveEach(into, 9, (length) => lengths.push(length))).toBe(1);
  expect(into).toEqual(pattern(3000) as Uint8Array<ArrayBuffer>);
  left.end();
  expect(right.receiveEach(into, 9, () => undefined)).toBe(0);
});

test("messages of any size arrive whole when both sides await", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.integer({ min: 0, max: 20_000 }), { maxLength: 12 }), async (sizes) => {
      const [left, right] = channelPair();
      using _l = left;
      using _r = right;
      const sending = Promise.all(sizes.map((size, type) => left.sendAsync(pattern(size), { type }))).then(() =>
        left.end(),
      );
      let count = 0;
      for await (const { type, data } of right) {
        expect(type).toBe(count);
        expect(data).toEqual(pattern(sizes[count++] ?? -1) as Uint8Array<ArrayBuffer>);
      }
      await sending;
      expect(count).toBe(sizes.length);
      expect(right.peerEnded).toBe("finished");
    }),
    { numRuns: 25 },
  );
});

test("receiveAsync() wakes for a message that comes later, also after tryReceive() took one meanwhile", async () => {
  const [left, right] = channelPair();
  using _l = left;
  using _r = right;
  const pending = right.receiveAsync();
  await new Promise((resolve) => setTimeout(resolve, 5));
  left.send(bytes("first"));
  expect(text(right.tryReceive()?.data)).toBe("first");
  await new Promise((resolve) => setTimeout(resolve, 5));
  left.send(bytes("second"));
  expect(text((await pending)?.data)).toBe("second");
});

test("streams carry bytes with backpressure and end", async () => {
  const [left, right] = channelPair();
  using _l = left;
  using _r = right;
  const data = pattern(300_000);
  const writing = (async () => {
    const writer = left.writable.getWriter();
    await writer.write(data);
    await writer.close();
  })();
  const received: Uint8Array[] = [];
  for await (const chunk of right.readable) received.push(chunk);
  await writing;
  expect(Buffer.concat(received).equals(data)).toBe(true);
});

test("spans carry bytes in place", () => {
  const [left, right] = channelPair();
  using _l = left;
  using _r = right;
  left.writableSpan().set(bytes("in place"));
  left.commitSpan(8);
  expect(text(right.readableSpan())).toBe("in place");
  right.releaseSpan(3);
  expect(text(right.readBytes(100))).toBe("place");
  expect(right.readableSpan()).toBeUndefined();
});

test("a full ring gives an empty span, and a reactor learns of room by the doorbell", () => {
  const [left, right] = channelPair();
  using _l = left;
  using _r = right;
  for (let span = left.writableSpan(); span.length > 0; span = left.writableSpan()) left.commitSpan(span.length);
  expect(left.trySend(bytes("no room"))).toBe(false);
  expect(left.armSend(8)).toBe(true);
  while (right.tryReadBytes(512) !== undefined);
  expect(left.drainDoorbell()).toBe("open");
  expect(left.trySend(bytes("room"))).toBe(true);
});

test("a batch of which one message is larger than the room that the others left goes on", async () => {
  const [left, right] = rawSides(4096);
  const peer = spawnPeer(BUN, right, left, "hold", "sync", "0"); // reads whatever comes
  const [leftRing, rightRing] = [left.ring.dup(), right.ring.dup()];
  const setup = new ChannelSetup(left.ring, left.doorbell);
  await peer.mapped;
  for (const ring of [leftRing, rightRing]) sealRing(ring);
  using channel = setup.complete(rightRing);
  peer.seal();
  for (let round = 0; round < 20; round++) {
    channel.sendBatch([1800, 100, 900, 6000, 50].map((length) => new Uint8Array(length)));
  }
  expect(channel.closed).toBe(false);
  peer.child.kill("SIGKILL");
  await peer.output;
  for (const owned of [leftRing, right.ring, right.doorbell]) owned.close();
});

test("peek() shows the ring on a trusted channel only", () => {
  const [left, right] = channelPair(4096, { trust: "trusted" });
  using _l = left;
  using _r = right;
  left.send(bytes("look"));
  expect(text(right.peek())).toBe("look");
  right.release();
  expect(right.peek()).toBeUndefined();
  const [strict, other] = channelPair();
  using _s = strict;
  using _o = other;
  expect(() => strict.peek()).toThrow(TypeError);
});

test("end() lets the peer read what is there, then the end, while the other direction goes on", () => {
  const [left, right] = channelPair();
  using _l = left;
  using _r = right;
  left.send(bytes("last"));
  left.end();
  expect(text(right.receive()?.data)).toBe("last");
  expect(right.receive()).toBeUndefined();
  expect(right.peerEnded).toBe("finished");
  right.send(bytes("still here"));
  expect(text(left.receive()?.data)).toBe("still here");
  expect(() => left.send(bytes("more"))).toThrow(ClosedError);
});

test("views become empty at close(), and the peer cannot send any more", () => {
  const [left, right] = channelPair(4096, { trust: "trusted" });
  using _r = right;
  right.send(bytes("view"));
  const view = left.peek();
  const span = left.writableSpan();
  left.close();
  left.close();
  expect(view?.length).toBe(0);
  expect(span.length).toBe(0);
  expect(() => right.send(bytes("x"))).toThrow(ClosedError);
});

test("close() ends a receiveAsync() that waits", async () => {
  const [left, right] = channelPair();
  using _r = right;
  const pending = left.receiveAsync();
  left.close();
  await expect(pending).rejects.toThrow(ClosedError);
});

test("a peer killed while it waits: its last message is read, then the end, and sends are refused", async () => {
  for (const mode of ["sync", "async"]) {
    const sides = rawSides(4096);
    const peer = spawnPeer(BUN, sides[1], sides[0], "hold", mode, "0");
    const theirRing = sides[1].ring.dup();
    const ourRing = sides[0].ring.dup();
    sides[1].doorbell.close();
    const setup = new ChannelSetup(sides[0].ring, sides[0].doorbell);
    await peer.mapped;
    sealRing(ourRing);
    sealRing(theirRing);
    ourRing.close();
    sides[1].ring.close();
    using channel = setup.complete(theirRing);
    peer.seal();
    if (mode === "sync") expect(channel.armReceive() ? channel.drainDoorbell() : "open").toBe("open");
    const first = await channel.receiveAsync();
    expect(text(first?.data)).toBe("last words");
    peer.child.kill("SIGKILL");
    await peer.output;
    expect(mode === "sync" ? channel.receive() : await channel.receiveAsync()).toBeUndefined();
    expect(channel.peerEnded).toBe("vanished");
    expect(() => channel.send(bytes("anyone?"))).toThrow("the peer has gone");
  }
});

test("complete() refuses a ring above maxPeerCapacity, 64 MiB unless it is said, before any of it is mapped", () => {
  const mapped = (): number => readFileSync("/proc/self/maps", "utf8").split("memfd:shmlink:7:1").length - 1;
  for (const [capacity, options, most] of [
    [8192, { maxPeerCapacity: 4096 }, 4096],
    [2 ** 27, {}, 2 ** 26],
  ] as const) {
    const [bell, other] = socketpair(constants.SOCK_STREAM);
    using _other = other;
    using setup = new ChannelSetup(createRing({ channelId: 7, side: 0, capacity: 4096 }), bell);
    const ring = createRing({ channelId: 7, side: 1, capacity });
    sealRing(ring);
    const refusal = `the other side's ring has ${capacity} bytes, maxPeerCapacity is ${most}`;
    expect(() => setup.complete(ring, options)).toThrow(
      new FailureError("refused", `Cannot use the channel: ${refusal}`),
    );
    expect(mapped()).toBe(0);
    const fits = createRing({ channelId: 7, side: 1, capacity });
    sealRing(fits);
    setup.complete(fits, { maxPeerCapacity: capacity }).close();
  }
});

test("complete() refuses a ring that is not sealed, of another channel, of our own side, or no memfd", () => {
  const [bell, other] = socketpair(constants.SOCK_STREAM);
  other.close();
  using setup = new ChannelSetup(createRing({ channelId: 1, side: 0, capacity: 4096 }), bell);
  const sealed = (channelId: number, side: 0 | 1) => {
    const ring = createRing({ channelId, side, capacity: 4096 });
    sealRing(ring);
    return ring;
  };
  expect(() => setup.complete(createRing({ channelId: 1, side: 1, capacity: 4096 }))).toThrow(
    "F_SEAL_SHRINK is missing",
  );
  expect(() => setup.complete(memfdCreate("bare"))).toThrow("F_SEAL_SHRINK is missing");
  expect(() => setup.complete(sealed(2, 1))).toThrow('channel id is "2"');
  expect(() => setup.complete(sealed(1, 0))).toThrow('side is "0"');
  const [socket, otherSocket] = socketpair(constants.SOCK_STREAM);
  otherSocket.close();
  expect(() => setup.complete(socket)).toThrow(ProtocolError);
});

test("a peer that breaks the rules ends the channel with ProtocolError, again and again", async () => {
  const sides = rawSides(4096);
  const [ourRing, theirRing] = [sides[0].ring.dup(), sides[1].ring.dup()];
  const setups = [
    new ChannelSetup(sides[0].ring, sides[0].doorbell),
    new ChannelSetup(sides[1].ring, sides[1].doorbell),
  ] as const;
  sealRing(ourRing);
  sealRing(theirRing);
  using channel = setups[0].complete(theirRing, { maxMessageBytes: 5000 });
  using peer = setups[1].complete(ourRing);
  const sending = peer.sendAsync(new Uint8Array(6000));
  await expect(channel.receiveAsync()).rejects.toThrow(ProtocolError);
  expect(channel.violation?.kind).toBe("message-size");
  expect(() => channel.tryReceive()).toThrow(ProtocolError);
  expect(() => channel.send(bytes("x"))).toThrow(ProtocolError);
  await sending.catch((error) => expect(error).toBeInstanceOf(ClosedError));
});

/** Our end of a channel, and what a peer of any kind holds: its ring, writable, and its doorbell. */
function facing(capacity: number): { channel: Channel; ring: RingMemory; mapping: Mapping; doorbell: OwnedFd } {
  const [ours, theirs] = rawSides(capacity);
  const mapping = mapShared(theirs.ring, ringFileBytes(capacity), "read-write");
  using ourRing = ours.ring.dup();
  const setup = new ChannelSetup(ours.ring, ours.doorbell);
  for (const ring of [ourRing, theirs.ring]) sealRing(ring);
  return { channel: setup.complete(theirs.ring), ring: ringMemory(mapping.buffer), mapping, doorbell: theirs.doorbell };
}

test("after a violation each call says what the peer did, the first one too", () => {
  const { channel, ring, mapping, doorbell } = facing(4096);
  using _m = mapping;
  using _d = doorbell;
  ring.words.set([16, (FIRST | LAST) << 16], DATA_OFFSET / 4);
  ring.words.set([-1, (FIRST | LAST) << 16], DATA_OFFSET / 4 + 6);
  ring.words[TAIL] = 48;
  const into = new Uint8Array(64);
  expect(channel.receiveInto(into)).toBe(16);
  for (let time = 0; time < 3; time++) expect(() => channel.receiveInto(into)).toThrow(ProtocolError);
});

/** A peer that puts one more record into its ring for each that is released: there is always one, until `most` were.
 *  @param whole  each time around the ring is one message, and not all of it for ever */
function facingEndless(
  length: number,
  flags: number,
  most: number = Number.POSITIVE_INFINITY,
  capacity = 4096,
  whole = false,
): Disposable & { channel: Channel; released(): number } {
  const { channel, ring, mapping, doorbell } = facing(capacity);
  const size = (length + 15) & ~7;
  for (let at = 0; at < capacity; at += size) ring.words.set([length, flags << 16], (DATA_OFFSET + at) / 4);
  const words = ring.words.subarray(DATA_OFFSET / 4);
  if (flags === 0) words[1] = FIRST << 16;
  if (whole) words[(capacity - size) / 4 + 1] = LAST << 16;
  ring.words[TAIL] = capacity;
  let released = 0;
  const { release } = RingConsumer.prototype;
  RingConsumer.prototype.release = function (this: RingConsumer): void {
    release.call(this);
    if (++released >= most) return;
    if (!whole) words[1] = flags << 16;
    ring.words[TAIL] = (ring.words[TAIL] ?? 0) + size;
  };
  const dispose = (): void => {
    RingConsumer.prototype.release = release;
    for (const owned of [channel, mapping, doorbell]) owned.close();
  };
  return { channel, released: () => released, [Symbol.dispose]: dispose };
}

test("a call that does not wait returns, however fast the peer sends what is no message", () => {
  for (const [length, flags, call] of [
    [0, FIRST | LAST, (channel: Channel) => channel.tryReadBytes(100)],
    [0, FIRST | LAST, (channel: Channel) => channel.readableSpan()],
    [8, 0, (channel: Channel) => channel.tryReceive()],
  ] as const) {
    using endless = facingEndless(length, flags);
    for (let time = 1; time <= 3; time++) {
      expect(call(endless.channel)).toBeUndefined();
      expect(endless.released()).toBe(time * (4096 / 8 + 1));
    }
  }
});

test("tryReceiveNewest() looks at no more than fits into the ring once, however fast the peer sends", () => {
  using endless = facingEndless(1, 0, 100_000, 4096, true);
  for (let time = 1; time <= 3; time++) {
    const before = endless.released();
    expect(endless.channel.tryReceiveNewest()?.data.length).toBe(256);
    expect(endless.released() - before).toBeLessThanOrEqual(4096 / 8 + 1);
  }
});

test("a call that waits gives up when its time is over, however fast the peer sends what is no message", () => {
  for (const call of [
    (channel: Channel) => channel.receive(0)?.data.length ?? -1,
    (channel: Channel) => channel.receiveInto(new Uint8Array(64), 0),
  ]) {
    using endless = facingEndless(8, 0, 100_000);
    for (let time = 1; time <= 3; time++) {
      expect(call(endless.channel)).toBe(-1);
      expect(endless.released()).toBe(time * (4096 / 8 + 1));
    }
  }
});

test("a call that waits gives up when its time is over, though the doorbell never stops", () => {
  const [left, right] = channelPair(4096);
  using _l = left;
  using _r = right;
  const { wait } = SocketDoorbell.prototype;
  let waits = 0;
  SocketDoorbell.prototype.wait = function (this: SocketDoorbell, timeoutMs: number): boolean {
    if (++waits > 1000) throw new Error("It waits on and on");
    send(right.doorbellFd, new Uint8Array(1), constants.MSG_DONTWAIT);
    return wait.call(this, timeoutMs);
  };
  try {
    const into = new Uint8Array(1000);
    expect(left.receiveInto(into, 0)).toBe(-1);
    expect(left.receive(0)).toBeUndefined();
    while (left.trySend(into));
    expect(() => left.send(into, { timeoutMs: 0 })).toThrow(expect.objectContaining({ code: "timeout" }));
  } finally {
    SocketDoorbell.prototype.wait = wait;
  }
  expect(waits).toBe(3);
});

test("an await goes on with other things, however fast the peer sends what is no message", async () => {
  using endless = facingEndless(0, FIRST | LAST);
  let turns = 0;
  const gaveUp = new AbortController();
  const reading = endless.channel.readBytesAsync(100, { signal: gaveUp.signal });
  const turn = (): void => {
    if (++turns < 5) setImmediate(turn);
    else gaveUp.abort(new Error("enough"));
  };
  setImmediate(turn);
  await expect(reading).rejects.toThrow("enough");
});

test("an await lets the event loop go on after some thousand parts, however long a look may be", async () => {
  for (const capacity of [4096, 1 << 20]) {
    using endless = facingEndless(1, 0, 2_000_000, capacity);
    const gaveUp = new AbortController();
    const receiving = endless.channel.receiveAsync({ signal: gaveUp.signal });
    const taken: number[] = [endless.released()];
    const turn = (): void => {
      taken.push(endless.released());
      if (taken.length < 10) setImmediate(turn);
      else gaveUp.abort(new Error("enough"));
    };
    setImmediate(turn);
    await expect(receiving).rejects.toThrow("enough");
    const inATurn = taken.map((count, index) => count - (taken[index - 1] ?? 0));
    expect(Math.max(...inATurn)).toBeGreaterThan(0);
    expect(Math.max(...inATurn)).toBeLessThanOrEqual(2 * 4096);
  }
});

test("a message in parts of one byte takes no more memory than its bytes", () => {
  using endless = facingEndless(1, 0);
  Bun.gc(true);
  const before = process.memoryUsage().heapUsed;
  while (endless.released() < 200_000) expect(endless.channel.tryReceive()).toBeUndefined();
  Bun.gc(true);
  expect(process.memoryUsage().heapUsed - before).toBeLessThan(200_000 * 32);
});

const MESSAGE = bytes("12345678");
// A full ring stops who sends, so that one is slow; the others ask again and again.
const SENDERS: Record<string, readonly [calls: number, call: (channel: Channel) => void]> = {
  trySend: [100_000, (channel) => void channel.trySend(MESSAGE)],
  reserve: [100_000, (channel) => void (channel.reserve(1024) && channel.commit())],
  send: [
    200,
    (channel) => {
      Bun.sleepSync(2);
      channel.send(MESSAGE);
    },
  ],
};

for (const [name, [calls, call]] of Object.entries(SENDERS)) {
  test(`${name}() notices that a peer was killed while awake, however fast it sent before`, () => {
    const { channel, ring, mapping, doorbell } = facing(4096);
    using _c = channel;
    using _m = mapping;
    for (let sent = 16; sent <= 16 * 5000; sent += 16) {
      channel.send(MESSAGE);
      Atomics.store(ring.words, HEAD, sent); // as one who reads and never sleeps
    }
    doorbell.close();
    expect(() => {
      for (let time = 0; time < calls; time++) call(channel);
    }).toThrow("the peer has gone");
  });
}

test("a flooded doorbell costs a bounded number of reads and hides no message", () => {
  const sides = rawSides(4096);
  const [ourRing, theirRing] = [sides[0].ring.dup(), sides[1].ring.dup()];
  using flood = sides[1].doorbell.dup();
  const setups = [
    new ChannelSetup(sides[0].ring, sides[0].doorbell),
    new ChannelSetup(sides[1].ring, sides[1].doorbell),
  ] as const;
  sealRing(ourRing);
  sealRing(theirRing);
  using channel = setups[0].complete(theirRing);
  using peer = setups[1].complete(ourRing);
  while (send(flood, new Uint8Array(8192), constants.MSG_DONTWAIT) !== null);
  expect(channel.drainDoorbell()).toBe("open");
  expect(read(channel.doorbellFd, new Uint8Array(1))).toBe(1); // it did not read to the end
  peer.send(bytes("x"));
  expect(text(channel.receive()?.data)).toBe("x");
});

test("RingStats and directionStats() tell what went through, and refuse after close()", () => {
  const sides = rawSides(4096);
  using producerStats = new RingStats(sides[0].ring);
  const consumerStats = new RingStats(sides[1].ring);
  const [ourRing, theirRing] = [sides[0].ring.dup(), sides[1].ring.dup()];
  const setups = [
    new ChannelSetup(sides[0].ring, sides[0].doorbell),
    new ChannelSetup(sides[1].ring, sides[1].doorbell),
  ] as const;
  sealRing(ourRing);
  sealRing(theirRing);
  using left = setups[0].complete(theirRing);
  using right = setups[1].complete(ourRing);
  for (let index = 0; index < 10; index++) left.send(new Uint8Array(16));
  right.receive();
  right.armReceive();
  expect(directionStats(producerStats.read(), consumerStats.read())).toEqual({
    bytes: 160,
    messages: 10,
    fill: 9 * 24,
    wakeups: 0,
    wakeupsSaved: 10,
    dropped: 0,
    skipped: 0,
    hugePages: 0,
  });
  consumerStats.close();
  expect(() => consumerStats.read()).toThrow(ClosedError);
});

test("sealRing() refuses what cannot be sealed", () => {
  const [socket, other] = socketpair(constants.SOCK_STREAM);
  using _s = socket;
  using _o = other;
  expect(() => sealRing(socket)).toThrow(ProtocolError);
});

test("a signal gives up a receive that waits, and nothing is lost", async () => {
  const [left, right] = channelPair();
  expect(left.receiveAsync({ signal: AbortSignal.abort(new Error("at once")) })).rejects.toThrow("at once");
  const controller = new AbortController();
  const pending = left.receiveAsync({ signal: controller.signal });
  const other = left.receiveAsync();
  controller.abort(new Error("enough"));
  expect(pending).rejects.toThrow("enough");
  right.send(bytes("for the other"));
  expect((await other)?.data).toEqual(bytes("for the other"));
  const timely = left.receiveAsync({ signal: AbortSignal.timeout(10) });
  expect(timely).rejects.toThrow(expect.objectContaining({ name: "TimeoutError" }));
  await timely.catch(() => undefined);
  right.send(bytes("later"));
  expect((await left.receiveAsync())?.data).toEqual(bytes("later"));
  left.close();
  right.close();
});

test("a signal gives up a send that waits for room, and those after it go on", async () => {
  const [left, right] = channelPair(4096);
  const full = new Uint8Array(1000);
  while (left.trySend(full));
  const controller = new AbortController();
  const given = left.sendAsync(bytes("given up"), { signal: controller.signal });
  const kept = left.sendAsync(bytes("kept"));
  controller.abort();
  expect(given).rejects.toThrow(expect.objectContaining({ name: "AbortError" }));
  await given.catch(() => undefined);
  let last: Uint8Array | undefined;
  const reading = (async () => {
    for await (const { data } of right) last = data;
  })();
  await kept;
  left.end();
  await reading;
  expect(last).toEqual(bytes("kept"));
  left.close();
  right.close();
});

test("a signal gives up a send that waits for those before it, at once, and nothing of it is sent", async () => {
  const [left, right] = channelPair(4096);
  const full = new Uint8Array(1000);
  while (left.trySend(full));
  const first = left.sendAsync(bytes("first"));
  const controller = new AbortController();
  const second = left.sendAsync(bytes("second"), { signal: controller.signal });
  const third = left.sendAsync(bytes("third"));
  controller.abort(new Error("enough"));
  await second.then(
    () => expect.unreachable(),
    (error) => expect(error).toEqual(new Error("enough")),
  ); // while nobody reads
  const texts: string[] = [];
  const reading = (async () => {
    for await (const { data } of right) if (data.length < 10) texts.push(new TextDecoder().decode(data));
  })();
  await Promise.all([first, third]);
  left.send(bytes("fourth"));
  left.end();
  await reading;
  expect(texts).toEqual(["first", "third", "fourth"]);
  left.close();
  right.close();
});

test("each way to send has a time limit, and none that it does not keep", async () => {
  const [left, right] = channelPair(4096);
  const message = new Uint8Array(1000);
  while (left.trySend(message));
  const timeoutMs = 5;
  const ways: Record<string, () => unknown> = {
    send: () => left.send(message, { timeoutMs }),
    large: () => left.send(new Uint8Array(10_000), { timeoutMs }),
    sendBatch: () => left.sendBatch([message, message], { timeoutMs }),
    largeInBatch: () => left.sendBatch([new Uint8Array(10_000)], { timeoutMs }),
    sendPacked: () => left.sendPacked(new Uint8Array(2000), 1000, { timeoutMs }),
  };
  for (const [way, send] of Object.entries(ways))
    expect(send, way).toThrow(expect.objectContaining({ code: "timeout" }));
  const sent = left.sendAsync(message, { timeoutMs } as object);
  await expect(sent).rejects.toThrow(TypeError);
  const limited = left.sendAsync(message, { signal: AbortSignal.timeout(timeoutMs) });
  await limited.catch((error) => expect(error).toMatchObject({ name: "TimeoutError" }));
  let received = 0;
  while (right.tryReceive() !== undefined) received++;
  expect(received).toBe(4); // what there was
  left.close();
  right.close();
});

test("a peer that ends in the midst of a message has not finished", async () => {
  for (const leave of ["end", "close"] as const) {
    const [left, right] = channelPair(4096);
    left.send(bytes("whole"));
    const sending = left.sendAsync(new Uint8Array(10_000));
    await Promise.resolve();
    left[leave]();
    expect((await right.receiveAsync())?.data).toEqual(bytes("whole"));
    expect(await right.receiveAsync()).toBeUndefined();
    expect(right.peerEnded).toBe("vanished");
    await sending.catch((error) => expect(error).toBeInstanceOf(ClosedError));
    left.close();
    right.close();
  }
});

test("maxMessageBytes holds for a message of one record, however it is received", async () => {
  const into = new Uint8Array(4096);
  const ways: Record<string, (channel: Channel) => unknown> = {
    tryReceive: (channel) => channel.tryReceive(),
    tryReceiveNewest: (channel) => channel.tryReceiveNewest(),
    receive: (channel) => channel.receive(),
    receiveAsync: (channel) => channel.receiveAsync(),
    receiveInto: (channel) => channel.receiveInto(into),
    tryReceiveInto: (channel) => channel.tryReceiveInto(into),
    receiveEach: (channel) => channel.receiveEach(into, 10, () => undefined),
    receivePacked: (channel) => channel.receivePacked(into.subarray(0, 400), 200),
    peek: (channel) => channel.peek(),
  };
  const { receiveInto = () => expect.unreachable() } = ways;
  for (const [way, receive] of Object.entries(ways)) {
    for (const warm of [0, 20]) {
      using both = limited(100);
      for (let index = 0; index < warm; index++) {
        both.peer.send(bytes("short"));
        expect(receiveInto(both.channel)).toBe(5); // the machine code has the limit as well
      }
      both.peer.send(new Uint8Array(200));
      const received = (async () => receive(both.channel))();
      await expect(received, way).rejects.toThrow(ProtocolError);
      expect([way, both.channel.violation]).toMatchObject([way, { kind: "message-size", value: 200 }]);
    }
  }
});

/** A channel of which one end takes messages of so many bytes at most. */
function limited(maxMessageBytes: number): { channel: Channel; peer: Channel; [Symbol.dispose](): void } {
  const sides = rawSides(4096);
  const [ourRing, theirRing] = [sides[0].ring.dup(), sides[1].ring.dup()];
  const ours = new ChannelSetup(sides[0].ring, sides[0].doorbell);
  const theirs = new ChannelSetup(sides[1].ring, sides[1].doorbell);
  for (const ring of [ourRing, theirRing]) sealRing(ring);
  const channel = ours.complete(theirRing, { maxMessageBytes, trust: "trusted" });
  const peer = theirs.complete(ourRing);
  const close = (): void => {
    channel.close();
    peer.close();
  };
  return { channel, peer, [Symbol.dispose]: close };
}

test("a blocking call gives up when its time is over, however often it was woken for nothing", () => {
  const [left, right] = channelPair(4096);
  const into = new Uint8Array(64);
  for (let index = 0; index < 3; index++) send(right.doorbellFd, new Uint8Array(1), constants.MSG_DONTWAIT);
  expect(left.receiveInto(into, 30)).toBe(-1);
  expect(left.receive(0)).toBeUndefined();
  const full = new Uint8Array(1000);
  while (left.trySend(full));
  expect(() => left.send(full, { timeoutMs: 20 })).toThrow(expect.objectContaining({ code: "timeout" }));
  let received = 0;
  while (right.receive(0) !== undefined) received++;
  expect(received).toBe(4);
  left.send(full, { timeoutMs: 20 });
  expect(right.receive()?.data).toEqual(full);
  left.close();
  right.close();
});

test("prefault takes the memory of our ring at once, and of nobody else's", () => {
  const [left, right] = rawSides(1 << 16);
  const blocks = (ring: OwnedFd): number => statSync(`/proc/self/fd/${ring.number}`).blocks;
  const [leftRing, rightRing] = [left.ring.dup(), right.ring.dup()];
  using setup = new ChannelSetup(left.ring, left.doorbell);
  for (const ring of [leftRing, rightRing]) sealRing(ring);
  expect(blocks(leftRing)).toBe(8); // the header's page, in units of 512 bytes
  using channel = setup.complete(rightRing.dup(), { prefault: true });
  expect(channel.closed).toBe(false);
  expect(blocks(leftRing)).toBe((8192 + (1 << 16)) / 512);
  expect(blocks(rightRing)).toBe(8);
  for (const owned of [leftRing, rightRing, right.ring, right.doorbell]) owned.close();
});

test("hugePages takes a large ring's memory in large pieces, maps both ends of it so, and tells what came of it", () => {
  const CAPACITY = 1 << 22;
  const [left, right] = rawSides(CAPACITY);
  const [leftRing, rightRing] = [left.ring.dup(), right.ring.dup()];
  using near = new ChannelSetup(left.ring, left.doorbell);
  using far = new ChannelSetup(right.ring, right.doorbell);
  for (const ring of [leftRing, rightRing]) sealRing(ring);
  using stats = new RingStats(leftRing);
  using sender = near.complete(rightRing, { hugePages: true });
  using receiver = far.complete(leftRing);
  for (let count = 0; count < 40; count++) {
    sender.send(new Uint8Array(100_000).fill(count));
    expect(receiver.tryReceive()?.data).toEqual(new Uint8Array(100_000).fill(count));
  }
  expect(receiver.hugePageBytes).toBe(0);
  expect(stats.read().hugePages).toBe(sender.hugePageBytes);
  expect([0, CAPACITY]).toContain(sender.hugePageBytes);
  const mappings = readFileSync("/proc/self/smaps", "latin1").split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m);
  const ours = mappings.filter((each) => each.includes("memfd:shmlink:7:0") && each.includes("4104 kB"));
  const inPieces = ours.map((each) => Number(/ShmemPmdMapped:\s+(\d+)/.exec(each)?.[1]) * 1024);
  expect(inPieces).toEqual([sender.hugePageBytes, sender.hugePageBytes]);
});

test("hugePages changes nothing for a ring that is smaller than one", () => {
  const [left, right] = channelPair(65536, { hugePages: true });
  expect(left.hugePageBytes).toBe(0);
  left.send(new Uint8Array(8));
  expect(right.receive()?.data).toHaveLength(8);
  left.close();
  right.close();
});

test("a timeout that is no number is refused, not taken for none", () => {
  const [left, right] = channelPair();
  using _l = left;
  using _r = right;
  expect(() => left.receive({ timeoutMs: 50 } as unknown as number)).toThrow(TypeError);
});

import { describe, expect, test } from "bun:test";
import { constants, type OwnedFd, pipe, read, setsockopt, socketpair, write } from "../../ffi/mod.ts";
import { type MemoryPairOptions, memoryPair } from "../../lib/transport/memory.ts";
import { OverflowError, type Transport } from "../../lib/transport/transport.ts";
import { UnixTransport } from "../../lib/transport/unix.ts";
import { openFds } from "../helpers/fd-leak.ts";

type Pair = readonly [Transport, Transport];
type Options = Pick<MemoryPairOptions, "maxQueuedBytes">;

function unixPair(options: Options = {}, tiny = false): Pair {
  const [a, b] = socketpair(constants.SOCK_STREAM);
  if (tiny) for (const fd of [a, b]) setsockopt(fd, constants.SOL_SOCKET, constants.SO_SNDBUF, 1);
  return [new UnixTransport(a, options), new UnixTransport(b, options)];
}

const IMPLEMENTATIONS: Readonly<Record<string, (options?: Options) => Pair>> = {
  unix: (options) => unixPair(options),
  "unix with the smallest buffers": (options) => unixPair(options, true),
  memory: (options) => memoryPair(options),
  "memory split and short": (options) =>
    memoryPair({ ...options, maxReceiveBytes: 3, maxSendBytes: 5, capacityBytes: 64 }),
};

const text = (value: string): Uint8Array => new TextEncoder().encode(value);

/** A pipe's reader to pass on, and what proves later that it is the right one. */
function marked(mark: number): OwnedFd {
  const ends = pipe();
  write(ends.writer, new Uint8Array([mark]));
  ends.writer.close();
  return ends.reader;
}

function readMark(fd: OwnedFd): number | undefined {
  const byte = new Uint8Array(1);
  const count = read(fd, byte);
  fd.close();
  return count === 1 ? byte[0] : undefined;
}

type Collected = { bytes: number[]; fds: { mark: number | undefined; position: number }[]; ended: boolean };

/** Moves everything from one end to the other; each descriptor with the position at which it came. */
function transfer(from: Transport | undefined, to: Transport): Collected {
  const collected: Collected = { bytes: [], fds: [], ended: false };
  for (;;) {
    const state = from?.flush() ?? "done";
    const incoming = to.receive();
    if (incoming === "end") return { ...collected, ended: true };
    if (incoming === null) {
      if (state === "done") return collected;
      continue;
    }
    for (const fd of incoming.fds) collected.fds.push({ mark: readMark(fd), position: collected.bytes.length });
    for (const byte of incoming.bytes) collected.bytes.push(byte);
  }
}

function flushAll(transport: Transport): void {
  expect(transport.flush()).toBe("done");
}

for (const [name, makePair] of Object.entries(IMPLEMENTATIONS)) {
  describe(`transport over ${name}`, () => {
    test("receive() is null while nothing has come", () => {
      const [a, b] = makePair();
      expect(a.receive()).toBeNull();
      a.close();
      b.close();
    });

    test("bytes arrive whole and in order, in both directions", () => {
      const [a, b] = makePair();
      for (const part of ["one ", "two ", "three"]) a.queue(text(part), []);
      expect(transfer(a, b).bytes).toEqual([...text("one two three")]);
      b.queue(text("back"), []);
      expect(transfer(b, a).bytes).toEqual([...text("back")]);
      a.close();
      b.close();
    });

    test("a million bytes arrive although the other side reads slowly", () => {
      const [a, b] = makePair();
      const sent = Uint8Array.from({ length: 1_000_000 }, (_, index) => (index * 7 + (index >> 8)) & 0xff);
      a.queue(sent, []);
      const { bytes } = transfer(a, b);
      expect(Bun.hash(Uint8Array.from(bytes))).toBe(Bun.hash(sent));
      expect(a.queuedBytes).toBe(0);
      a.close();
      b.close();
    });

    test("descriptors come once, in order, not after the first byte they were queued with", () => {
      const before = openFds();
      const [a, b] = makePair();
      a.queue(text("plain"), []);
      a.queue(text("abcdefghij"), [marked(1), marked(2)]);
      a.queue(text("k"), [marked(3)]);
      a.queue(text("tail"), []);
      const { bytes, fds } = transfer(a, b);
      expect(bytes).toEqual([...text("plainabcdefghijktail")]);
      expect(fds.map(({ mark }) => mark)).toEqual([1, 2, 3]);
      for (const [index, position] of [5, 5, 15].entries()) expect(fds[index]?.position).toBeLessThanOrEqual(position);
      a.close();
      b.close();
      expect(openFds()).toEqual(before);
    });

    test("28 descriptors travel in one queue(), more are refused and closed", () => {
      const before = openFds();
      const [a, b] = makePair();
      a.queue(
        text("x"),
        Array.from({ length: 28 }, (_, index) => marked(index)),
      );
      expect(transfer(a, b).fds.map(({ mark }) => mark)).toEqual(Array.from({ length: 28 }, (_, index) => index));
      const many = Array.from({ length: 29 }, (_, index) => marked(index));
      expect(() => a.queue(text("x"), many)).toThrow(RangeError);
      expect(() => a.queue(new Uint8Array(0), [marked(1)])).toThrow(RangeError);
      a.close();
      b.close();
      expect(openFds()).toEqual(before);
    });

    test("sent descriptors are closed on the sender's side", () => {
      const [a, b] = makePair();
      const fd = marked(1);
      a.queue(text("x"), [fd]);
      flushAll(a);
      const incoming = b.receive();
      // In one process "sent" may also mean handed over: either way exactly one owner is left.
      if (incoming === null || incoming === "end") throw new Error("nothing came");
      const [received] = incoming.fds;
      expect(received === fd || fd.closed).toBe(true);
      if (received === undefined) throw new Error("no descriptor came");
      expect(readMark(received)).toBe(1);
      a.close();
      b.close();
    });

    test("the end comes after the last byte", () => {
      const [a, b] = makePair();
      a.queue(text("last"), []);
      flushAll(a);
      a.close();
      const { bytes, ended } = transfer(undefined, b);
      expect(bytes).toEqual([...text("last")]);
      expect(ended).toBe(true);
      b.close();
    });

    test("a peer that closed with unread bytes is an end, and sending to it is quiet", () => {
      const before = openFds();
      const [a, b] = makePair();
      a.queue(text("unread"), [marked(1)]);
      flushAll(a);
      b.close();
      a.queue(text("more"), [marked(2)]);
      expect(a.flush()).toBe("done");
      a.queue(text("more"), [marked(3)]);
      expect(a.flush()).toBe("done");
      expect(a.queuedBytes).toBe(0);
      expect(a.receive()).toBe("end");
      a.close();
      expect(openFds()).toEqual(before);
    });

    test("a peer that does not read overflows the queue, which closes the descriptors of the refused bytes", () => {
      const before = openFds();
      const [a, b] = makePair({ maxQueuedBytes: 1000 });
      a.queue(new Uint8Array(900), [marked(1)]);
      expect(a.queuedBytes).toBe(900);
      expect(() => a.queue(new Uint8Array(101), [marked(2)])).toThrow(OverflowError);
      expect(a.queuedBytes).toBe(900);
      const { bytes, fds } = transfer(a, b);
      expect(bytes.length).toBe(900);
      expect(fds.map(({ mark }) => mark)).toEqual([1]);
      a.close();
      b.close();
      expect(openFds()).toEqual(before);
    });

    test("close() closes what was queued and what was on its way, and is safe twice", () => {
      const before = openFds();
      const [a, b] = makePair();
      a.queue(text("sent"), [marked(1)]);
      flushAll(a);
      a.queue(text("queued"), [marked(2)]);
      for (const transport of [a, a, b, b]) transport.close();
      a.queue(text("late"), [marked(3)]);
      expect(openFds()).toEqual(before);
    });

    test("flush() is blocked while the other side does not read, and done after it has", () => {
      const [a, b] = makePair();
      a.queue(new Uint8Array(1 << 20), []);
      expect(a.flush()).toBe("blocked");
      expect(a.starved).toBe(false);
      expect(a.queuedBytes).toBeGreaterThan(0);
      expect(transfer(a, b).bytes.length).toBe(1 << 20);
      expect(a.flush()).toBe("done");
      a.close();
      b.close();
    });
  });
}

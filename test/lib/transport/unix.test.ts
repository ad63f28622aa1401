import { expect, test } from "bun:test";
import { borrowFd, constants, getFileLimit, pipe, sendmsg, setFileLimit, socketpair } from "../../../ffi/mod.ts";
import { ProtocolError } from "../../../lib/errors.ts";
import { UnixTransport } from "../../../lib/transport/unix.ts";
import { openFds } from "../../helpers/fd-leak.ts";
import { requires } from "../../helpers/requires.ts";

test("receive() refuses a message whose descriptors the kernel dropped, and closes those that came", () => {
  const before = openFds();
  const [a, b] = socketpair(constants.SOCK_STREAM);
  const transport = new UnixTransport(b);
  const { reader, writer } = pipe();
  sendmsg(
    a,
    new Uint8Array([1]),
    Array.from({ length: 8 }, () => reader),
  );
  const limit = getFileLimit();
  // Room for a few of the eight: descriptor numbers below the limit that are still free.
  setFileLimit({ soft: BigInt(writer.number + 3), hard: limit.hard });
  try {
    expect(() => transport.receive()).toThrow(ProtocolError);
  } finally {
    setFileLimit(limit);
  }
  for (const fd of [reader, writer, a]) fd.close();
  transport.close();
  expect(openFds()).toEqual(before);
});

test("the fd of a transport is lent, and gone after close()", () => {
  const [a, b] = socketpair(constants.SOCK_STREAM);
  const transport = new UnixTransport(a);
  expect(transport.fd.number).toBe(a.number);
  transport.close();
  expect(() => borrowFd(transport.fd.number)).toThrow("closed");
  b.close();
});

requires.test(
  [requires.ordinaryUser()], // root may have any number in flight
  "flush() is blocked and starved, not broken, while too many descriptors are in flight",
  () => {
    const before = openFds();
    const [a, b] = socketpair(constants.SOCK_STREAM);
    const [sender, receiver] = [new UnixTransport(a), new UnixTransport(b)];
    const { reader, writer } = pipe();
    const limit = getFileLimit();
    setFileLimit({ soft: 256n, hard: limit.hard });
    try {
      let nQueued = 0;
      while (sender.flush() === "done" && nQueued < 1000) {
        const fds = Array.from({ length: 20 }, () => reader.dup());
        sender.queue(new Uint8Array([1]), fds);
        nQueued += fds.length;
      }
      expect(sender.starved).toBe(true);
      let nReceived = 0;
      while (nReceived < nQueued) {
        const incoming = receiver.receive();
        if (incoming === "end") throw new Error("the connection was lost");
        nReceived += incoming?.fds.length ?? 0;
        for (const fd of incoming?.fds ?? []) fd.close();
        sender.flush();
      }
      expect(sender.flush()).toBe("done");
      expect(sender.starved).toBe(false);
    } finally {
      setFileLimit(limit);
    }
    for (const closable of [reader, writer, sender, receiver]) closable.close();
    expect(openFds()).toEqual(before);
  },
);

import { expect, test } from "bun:test";
import { borrowFd, constants, getFileLimit, pipe, sendmsg, setFileLimit, socketpair } from "../../../ffi/mod.ts";
import { ProtocolError } from "../../../lib/errors.ts";
import { UnixTransport } from "../../../lib/transport/unix.ts";
import { openFds } from "./open-fds.ts";

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

import { expect, test } from "bun:test";
import { constants, memfdCreate, type OwnedFd, recvmsg, socketpair } from "../../../ffi/mod.ts";
import { InFlight } from "../../../lib/transport/in-flight.ts";
import { UnixTransport } from "../../../lib/transport/unix.ts";
import { expectNoFdLeaks } from "../../helpers/fd-leak.ts";

expectNoFdLeaks();

test("InFlight forgets what came before as much as is unread", () => {
  const inFlight = new InFlight();
  inFlight.note(100, 0);
  inFlight.note(100, 3);
  inFlight.note(100, 0);
  inFlight.note(100, 5);
  expect(inFlight.fds).toBe(8);
  inFlight.settle(1);
  expect(inFlight.fds).toBe(5);
  inFlight.settle(0);
  expect(inFlight.fds).toBe(0);
});

function pair(): { readonly transport: UnixTransport; readonly peer: OwnedFd } & Disposable {
  const [ours, peer] = socketpair(constants.SOCK_STREAM);
  const transport = new UnixTransport(ours);
  return {
    transport,
    peer,
    [Symbol.dispose]: () => {
      transport.close();
      peer.close();
    },
  };
}

function send(transport: UnixTransport, nFds: number): void {
  transport.queue(
    new Uint8Array(20 * nFds),
    Array.from({ length: nFds }, () => memfdCreate("sent")),
  );
  transport.flush();
}

function sendBytes(transport: UnixTransport, count: number): void {
  transport.queue(new Uint8Array(count), []);
  transport.flush();
}

function receive(peer: OwnedFd): void {
  for (const fd of recvmsg(peer)?.fds ?? []) fd.close();
}

test("unreadFds() leaves out nothing that was not received, and counts little that was", () => {
  using both = pair();
  const { transport, peer } = both;
  for (const nFds of [28, 1, 7, 28, 2, 28]) send(transport, nFds);
  expect(transport.unreadFds(0)).toBe(94);
  for (const left of [66, 65, 58, 30, 28]) {
    receive(peer);
    const counted = transport.unreadFds(0);
    expect(counted).toBeGreaterThanOrEqual(left);
    expect(counted).toBeLessThanOrEqual(left + 28 + 28);
  }
  receive(peer);
  expect(transport.unreadFds(0)).toBe(0);
});

for (const bytes of [12, 180, 400, 1000, 3000]) {
  test(`unreadFds() counts hardly a descriptor that was received before as many messages as are unread: ${bytes} bytes`, () => {
    using both = pair();
    const { transport, peer } = both;
    for (let count = 0; count < 40; count++) {
      send(transport, 28);
      receive(peer);
    }
    for (let count = 0; count < 40; count++) sendBytes(transport, bytes);
    expect(transport.unreadFds(0)).toBeLessThan(4 * 28); // 0 where the kernel rounds as it is reckoned with
  });
}

test("no message takes less memory than is reckoned with", () => {
  for (let bytes = 1; bytes < 60_000; bytes += bytes < 8192 ? 61 : 997) {
    using both = pair();
    const { transport } = both;
    send(transport, 1);
    sendBytes(transport, bytes);
    sendBytes(transport, 1);
    expect(transport.unreadFds(0)).toBe(1);
  }
});

test("unreadFds() asks nobody where there are no more than is minded, and nothing of one that is closed", () => {
  using both = pair();
  const { transport, peer } = both;
  send(transport, 5);
  receive(peer);
  expect(transport.unreadFds(5)).toBe(5);
  expect(transport.unreadFds(4)).toBe(0);
  send(transport, 5);
  transport.close();
  expect(transport.unreadFds(0)).toBe(5);
});

import { expect, test } from "bun:test";
import { bind, constants, errno, type OwnedFd, SyscallError, socket } from "../../../ffi/mod.ts";
import { Reactor } from "../../../lib/transport/reactor.ts";
import { EndWatch } from "../../../lib/wrap/end-watch.ts";
import { LOOPBACK_V4 } from "../../../lib/wrap/host.ts";
import { ReservedPorts, sharingOf } from "../../../lib/wrap/reserved-ports.ts";
import { cookieOf, localEndpoint, socketAddress } from "../../../lib/wrap/socket.ts";
import { expectNoFdLeaks } from "../../helpers/fd-leak.ts";

expectNoFdLeaks();

const tcpSocket = (): OwnedFd => socket(constants.AF_INET, constants.SOCK_STREAM);
const unixSocket = (): OwnedFd => socket(constants.AF_UNIX, constants.SOCK_STREAM);

function isFree(port: number): boolean {
  using other = tcpSocket();
  try {
    bind(other, socketAddress(4, { host: LOOPBACK_V4, port }));
    return true;
  } catch (error) {
    if (error instanceof SyscallError && error.errno === errno.EADDRINUSE) return false;
    throw error;
  }
}

/** @returns the port that was bound */
function keep(ports: ReservedPorts, unix: OwnedFd): number {
  const tcp = tcpSocket();
  bind(tcp, socketAddress(4, { host: LOOPBACK_V4, port: 0 }));
  const bound = localEndpoint(tcp);
  const sharing = sharingOf(tcp, 4);
  tcp.close();
  ports.keep(unix, { domain: 4, bound, sharing });
  return bound.port;
}

test("ReservedPorts keeps a port until the socket has ended, or is released, or all of them are", () => {
  using stack = new DisposableStack();
  const ends = stack.use(new EndWatch(stack.use(new Reactor())));
  const ports = stack.use(new ReservedPorts(ends, 16));
  const [ended, released, left] = [unixSocket(), stack.use(unixSocket()), stack.use(unixSocket())];
  const numbers = [ended, released, left].map((each) => keep(ports, each));
  expect(numbers.map(isFree)).toEqual([false, false, false]);
  ended.close();
  ends.notice();
  expect(numbers.map(isFree)).toEqual([true, false, false]);
  ports.release(cookieOf(released));
  ports.release(cookieOf(released));
  expect(numbers.map(isFree)).toEqual([true, true, false]);
  ports[Symbol.dispose]();
  expect(numbers.map(isFree)).toEqual([true, true, true]);
});

test("ReservedPorts keeps no more than it may, and later ones when there is room again", () => {
  using stack = new DisposableStack();
  const ends = stack.use(new EndWatch(stack.use(new Reactor())));
  const ports = stack.use(new ReservedPorts(ends, 1));
  const sockets = [1, 2, 3].map(() => stack.use(unixSocket()));
  const [first, second, third] = sockets as [OwnedFd, OwnedFd, OwnedFd];
  expect([keep(ports, first), keep(ports, second)].map(isFree)).toEqual([false, true]);
  ports.release(cookieOf(first));
  expect(isFree(keep(ports, third))).toBe(false);
});

import { expect, test } from "bun:test";
import {
  bind,
  constants,
  errno,
  getIntOption,
  type OwnedFd,
  SyscallError,
  setsockopt,
  socket,
} from "../../../ffi/mod.ts";
import { Reactor } from "../../../lib/transport/reactor.ts";
import { EndWatch } from "../../../lib/wrap/end-watch.ts";
import { whatWasChosen } from "../../../lib/wrap/handlers/disconnect.ts";
import { ReservedPorts } from "../../../lib/wrap/reserved-ports.ts";
import { cookieOf, localEndpoint, socketAddress } from "../../../lib/wrap/socket.ts";
import { expectNoFdLeaks } from "../../helpers/fd-leak.ts";

expectNoFdLeaks();
const { SO_REUSEADDR, SOL_SOCKET } = constants;
/** On this machine, and nobody else's: whoever has a port of 127.0.0.1 by chance does not matter. */
const HOST = Uint8Array.of(127, 77, (process.pid >> 8) & 255, process.pid & 255);

const tcpSocket = (): OwnedFd => socket(constants.AF_INET, constants.SOCK_STREAM);
const unixSocket = (): OwnedFd => socket(constants.AF_UNIX, constants.SOCK_STREAM);

function isFree(port: number, isShared = 0): boolean {
  using other = tcpSocket();
  setsockopt(other, SOL_SOCKET, SO_REUSEADDR, isShared);
  try {
    bind(other, socketAddress(4, { host: HOST, port }));
    return true;
  } catch (error) {
    if (error instanceof SyscallError && error.errno === errno.EADDRINUSE) return false;
    throw error;
  }
}

/** @returns the port that was bound */
function keep(ports: ReservedPorts, unix: OwnedFd, isShared = 0): number {
  using tcp = tcpSocket();
  setsockopt(tcp, SOL_SOCKET, SO_REUSEADDR, isShared);
  bind(tcp, socketAddress(4, { host: HOST, port: 0 }));
  const bound = localEndpoint(tcp);
  ports.keep(unix, tcp, { domain: 4, bound });
  expect(getIntOption(tcp, SOL_SOCKET, SO_REUSEADDR)).toBe(isShared);
  return bound.port;
}

test("ReservedPorts keeps a port until the socket has ended, or is released, or all of them are", () => {
  using stack = new DisposableStack();
  const ends = stack.use(new EndWatch(stack.use(new Reactor())));
  const ports = stack.use(new ReservedPorts(ends, 16));
  const [ended, released, left] = [unixSocket(), stack.use(unixSocket()), stack.use(unixSocket())];
  const numbers = [ended, released, left].map((each) => keep(ports, each));
  expect(numbers.map((port) => isFree(port))).toEqual([false, false, false]);
  ended.close();
  ends.notice();
  expect(numbers.map((port) => isFree(port))).toEqual([true, false, false]);
  ports.release(cookieOf(released));
  ports.release(cookieOf(released));
  expect(numbers.map((port) => isFree(port))).toEqual([true, true, false]);
  ports[Symbol.dispose]();
  expect(numbers.map((port) => isFree(port))).toEqual([true, true, true]);
});

test("ReservedPorts keeps no more than it may, and later ones when there is room again", () => {
  using stack = new DisposableStack();
  const ends = stack.use(new EndWatch(stack.use(new Reactor())));
  const ports = stack.use(new ReservedPorts(ends, 1));
  const sockets = [1, 2, 3].map(() => stack.use(unixSocket()));
  const [first, second, third] = sockets as [OwnedFd, OwnedFd, OwnedFd];
  expect([keep(ports, first), keep(ports, second)].map((port) => isFree(port))).toEqual([false, true]);
  ports.release(cookieOf(first));
  expect(isFree(keep(ports, third))).toBe(false);
});

test("ReservedPorts shares a port as the program's socket did", () => {
  using stack = new DisposableStack();
  const ends = stack.use(new EndWatch(stack.use(new Reactor())));
  const ports = stack.use(new ReservedPorts(ends, 16));
  const [alone, shared] = [keep(ports, stack.use(unixSocket())), keep(ports, stack.use(unixSocket()), 1)];
  expect([isFree(alone), isFree(alone, 1), isFree(shared), isFree(shared, 1)]).toEqual([false, false, false, true]);
});

test("ReservedPorts has a port before the program's socket gives it up, and shares it no more than that did", () => {
  using stack = new DisposableStack();
  const ends = stack.use(new EndWatch(stack.use(new Reactor())));
  const ports = stack.use(new ReservedPorts(ends, 16));
  using tcp = tcpSocket();
  bind(tcp, socketAddress(4, { host: HOST, port: 0 }));
  const bound = localEndpoint(tcp);
  ports.keep(stack.use(unixSocket()), tcp, { domain: 4, bound });
  const isFreeNow = () => [isFree(bound.port), isFree(bound.port, 1)];
  expect(isFreeNow()).toEqual([false, false]);
  expect(whatWasChosen(tcp, 4)).toEqual({ host: HOST, port: 0 });
  expect(isFreeNow()).toEqual([false, false]);
});

test("ReservedPorts leaves a port that the program chose to its socket as well", () => {
  using stack = new DisposableStack();
  const ends = stack.use(new EndWatch(stack.use(new Reactor())));
  const ports = stack.use(new ReservedPorts(ends, 16));
  const port = keep(ports, stack.use(unixSocket()));
  ports[Symbol.dispose]();
  using tcp = tcpSocket();
  const bound = { host: HOST, port };
  bind(tcp, socketAddress(4, bound));
  ports.keep(stack.use(unixSocket()), tcp, { domain: 4, bound });
  expect(whatWasChosen(tcp, 4)).toEqual(bound);
  expect([isFree(port), isFree(port, 1)]).toEqual([false, false]);
});

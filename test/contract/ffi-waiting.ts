/** Contract: epoll, poll, sockets and signals as bytes on a pipe. */
import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import {
  accept,
  bind,
  connect,
  constants,
  epollAdd,
  epollCreate,
  epollModify,
  epollRemove,
  epollWait,
  getIntOption,
  getpeername,
  getsockname,
  hasStopped,
  inetAddress,
  isIgnored,
  kill,
  listen,
  type OwnedFd,
  open,
  pipe,
  poll,
  read,
  readInetAddress,
  readUnixAddress,
  recv,
  SignalPipe,
  send,
  sendTo,
  setsockopt,
  shutdown,
  socket,
  socketpair,
  spawn,
  takeSocketError,
  unixAddress,
  waitForChild,
  write,
} from "../../ffi/mod.ts";
import { codeOf } from "./ffi-errors.ts";
import type { Case } from "./suite.ts";

const { AF_INET, AF_INET6, AF_UNIX, EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, SIGTERM, SIGUSR2 } = constants;
const { SO_REUSEADDR, SO_TYPE, SOCK_DGRAM, SOCK_NONBLOCK, SOCK_STREAM, SOL_SOCKET, SHUT_WR, TCP_NODELAY } = constants;

const text = (value: string): Uint8Array => new TextEncoder().encode(value);
const LOOPBACK = Uint8Array.of(127, 0, 0, 1);

function waitOnce(epoll: OwnedFd, timeoutMs: number): [token: number, events: number][] {
  const seen: [number, number][] = [];
  epollWait(epoll, timeoutMs, (token, events) => seen.push([token, events]));
  return seen;
}

const EPOLL: readonly Case[] = [
  {
    name: "epoll hands back the token of what is ready, the largest included",
    run() {
      using epoll = epollCreate();
      const { reader, writer } = pipe();
      epollAdd(epoll, reader, EPOLLIN, 0xffff_ffff);
      assert.deepEqual(waitOnce(epoll, 0), []);
      write(writer, text("x"));
      assert.deepEqual(waitOnce(epoll, -1), [[0xffff_ffff, EPOLLIN]]);
      epollModify(epoll, reader, EPOLLIN, 7);
      assert.deepEqual(waitOnce(epoll, -1), [[7, EPOLLIN]]);
      epollRemove(epoll, reader);
      assert.deepEqual(waitOnce(epoll, 0), []);
      reader.close();
      writer.close();
    },
  },
  {
    name: "epoll reports the hang-up of a peer",
    run() {
      using epoll = epollCreate();
      const [left, right] = socketpair(SOCK_STREAM);
      epollAdd(epoll, left, 0, 1);
      right.close();
      assert.equal((waitOnce(epoll, -1)[0]?.[1] ?? 0) & EPOLLHUP, EPOLLHUP);
      left.close();
    },
  },
  {
    name: "epoll takes 200 ready descriptors over several waits and starves none",
    run() {
      using epoll = epollCreate();
      const pipes = Array.from({ length: 200 }, () => pipe());
      for (const [index, { reader, writer }] of pipes.entries()) {
        epollAdd(epoll, reader, EPOLLIN, index);
        write(writer, text("x"));
      }
      const seen = new Set<number>();
      while (seen.size < 200) for (const [token] of waitOnce(epoll, -1)) seen.add(token);
      for (const { reader, writer } of pipes) {
        reader.close();
        writer.close();
      }
    },
  },
  {
    name: "a visitor may wait on another epoll",
    run() {
      using outer = epollCreate();
      using inner = epollCreate();
      const first = pipe();
      const second = pipe();
      for (const [token, { reader, writer }] of [first, second].entries()) {
        epollAdd(outer, reader, EPOLLIN, token);
        epollAdd(inner, reader, EPOLLIN, token + 10);
        write(writer, text("x"));
      }
      const order: number[] = [];
      epollWait(outer, -1, (token) => {
        order.push(token);
        for (const [nested] of waitOnce(inner, -1)) order.push(nested);
      });
      assert.deepEqual(order.filter((token) => token < 10).sort(), [0, 1]);
      assert.equal(order.length, 6);
      for (const fd of [first.reader, first.writer, second.reader, second.writer]) fd.close();
    },
  },
  {
    name: "epoll refuses a regular file, a second time and an unknown descriptor",
    run() {
      using epoll = epollCreate();
      using file = open("/proc/self/exe", constants.O_RDONLY);
      assert.equal(
        codeOf(() => epollAdd(epoll, file, EPOLLIN, 1)),
        "EPERM",
      );
      const { reader, writer } = pipe();
      assert.equal(
        codeOf(() => epollRemove(epoll, writer)),
        "ENOENT",
      );
      epollAdd(epoll, reader, EPOLLIN, 1);
      assert.equal(
        codeOf(() => epollAdd(epoll, reader, EPOLLIN, 1)),
        "EEXIST",
      );
      reader.close();
      writer.close();
    },
  },
  {
    name: "poll tells readable, writable, broken and idle apart",
    run() {
      const idle = pipe();
      const ready = pipe();
      write(ready.writer, text("x"));
      const broken = pipe();
      broken.reader.close();
      const asked = [
        { fd: idle.reader, events: EPOLLIN },
        { fd: ready.reader, events: EPOLLIN },
        { fd: ready.writer, events: EPOLLOUT },
        { fd: broken.writer, events: 0 },
      ];
      assert.deepEqual(poll(asked, -1), [0, EPOLLIN, EPOLLOUT, EPOLLERR]);
      assert.deepEqual(poll(asked.slice(0, 1), 0), [0]);
      assert.deepEqual(poll(asked.slice(0, 1), 3), [0]);
      for (const fd of [idle.reader, idle.writer, ready.reader, ready.writer, broken.writer]) fd.close();
    },
  },
];

function tcpListener(): { readonly listener: OwnedFd; readonly port: number } {
  const listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, 1);
  bind(listener, inetAddress({ family: AF_INET, host: LOOPBACK, port: 0 }), "127.0.0.1:0");
  listen(listener, 4);
  return { listener, port: readInetAddress(getsockname(listener))?.port ?? 0 };
}

const SOCKETS: readonly Case[] = [
  {
    name: "a TCP connection: names agree at both ends, data and end arrive",
    run() {
      const { listener, port } = tcpListener();
      assert.equal(accept(listener), null);
      const client = socket(AF_INET, SOCK_STREAM);
      const target = inetAddress({ family: AF_INET, host: LOOPBACK, port });
      assert.equal(connect(client, target), "connected");
      poll([{ fd: listener, events: EPOLLIN }], -1);
      const accepted = accept(listener);
      assert.ok(accepted !== null);
      assert.deepEqual(getpeername(client), target);
      assert.deepEqual(accepted.address, getsockname(client));
      assert.deepEqual(getpeername(accepted.fd), getsockname(client));
      assert.equal(send(client, text("tcp"), 0), 3);
      shutdown(client, SHUT_WR);
      poll([{ fd: accepted.fd, events: EPOLLIN }], -1);
      const room = new Uint8Array(8);
      assert.equal(recv(accepted.fd, room, 0), 3);
      poll([{ fd: accepted.fd, events: EPOLLIN }], -1);
      assert.equal(recv(accepted.fd, room, 0), 0);
      for (const fd of [client, accepted.fd, listener]) fd.close();
    },
  },
  {
    name: "a refused connection says so, at once or by SO_ERROR",
    run() {
      const { listener, port } = tcpListener();
      listener.close();
      const target = inetAddress({ family: AF_INET, host: LOOPBACK, port });
      using waiting = socket(AF_INET, SOCK_STREAM);
      assert.equal(
        codeOf(() => connect(waiting, target)),
        "ECONNREFUSED",
      );
      using hasty = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK);
      assert.equal(connect(hasty, target), "in-progress");
      poll([{ fd: hasty, events: EPOLLOUT }], -1);
      assert.equal(takeSocketError(hasty), 111);
      assert.equal(takeSocketError(hasty), 0);
      assert.equal(
        codeOf(() => getpeername(hasty)),
        "ENOTCONN",
      );
    },
  },
  {
    name: "options are set and read back",
    run() {
      using fd = socket(AF_INET6, SOCK_STREAM);
      assert.equal(getIntOption(fd, constants.IPPROTO_TCP, TCP_NODELAY), 0);
      setsockopt(fd, constants.IPPROTO_TCP, TCP_NODELAY, 1);
      assert.equal(getIntOption(fd, constants.IPPROTO_TCP, TCP_NODELAY), 1);
      assert.equal(getIntOption(fd, SOL_SOCKET, SO_TYPE), SOCK_STREAM);
      assert.equal(
        codeOf(() => getIntOption(fd, constants.IPPROTO_TCP, 9999)),
        "ENOPROTOOPT",
      );
    },
    unless() {
      try {
        socket(AF_INET6, SOCK_STREAM).close();
        return undefined;
      } catch {
        return "this kernel has no IPv6";
      }
    },
  },
  {
    name: "Unix sockets by path and by abstract name; a name in use is EADDRINUSE and named",
    run() {
      const path = `/tmp/shm-contract-${process.pid}.sock`;
      for (const name of [path, `@${path}`]) {
        using listener = socket(AF_UNIX, SOCK_STREAM);
        bind(listener, unixAddress(name), name);
        listen(listener, 1);
        assert.equal(readUnixAddress(getsockname(listener)), name);
        using second = socket(AF_UNIX, SOCK_STREAM);
        assert.throws(() => bind(second, unixAddress(name), name), { code: "EADDRINUSE", path: name });
      }
      using late = socket(AF_UNIX, SOCK_STREAM);
      assert.equal(
        codeOf(() => connect(late, unixAddress(path))),
        "ECONNREFUSED",
      );
      rmSync(path);
      assert.equal(
        codeOf(() => connect(late, unixAddress(path))),
        "ENOENT",
      );
    },
  },
  {
    name: "a datagram goes to its address",
    run() {
      using receiver = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK);
      const name = `@shm-datagram-${process.pid}`;
      bind(receiver, unixAddress(name));
      using sender = socket(AF_UNIX, SOCK_DGRAM);
      sendTo(sender, text("READY=1"), 0, unixAddress(name), name);
      const room = new Uint8Array(32);
      assert.equal(recv(receiver, room, 0), 7);
      assert.equal(recv(receiver, room, 0), null);
    },
  },
];

/** Waits for a signal's byte; the handler may run on another thread, a moment after kill() returned. */
function awaitSignal(signals: SignalPipe): number[] {
  poll([{ fd: signals.fd, events: EPOLLIN }], -1);
  return signals.take();
}

const SIGNALS: readonly Case[] = [
  {
    name: "a signal becomes a byte, and kills nobody",
    run() {
      using signals = new SignalPipe([SIGUSR2, SIGTERM]);
      assert.deepEqual(signals.take(), []);
      kill(process.pid, SIGUSR2);
      assert.deepEqual(awaitSignal(signals), [SIGUSR2]);
      kill(process.pid, SIGTERM);
      assert.deepEqual(awaitSignal(signals), [SIGTERM]);
    },
  },
  {
    name: "a signal tells whether a process sent it or the kernel",
    run() {
      using signals = new SignalPipe([SIGUSR2, constants.SIGCHLD]);
      kill(process.pid, SIGUSR2);
      poll([{ fd: signals.fd, events: EPOLLIN }], -1);
      assert.deepEqual(signals.takeSent(), [{ signal: SIGUSR2, fromProcess: true }]);
      const { pid } = spawn({ path: "/bin/true", argv: ["true"], env: [] });
      poll([{ fd: signals.fd, events: EPOLLIN }], -1);
      assert.deepEqual(signals.takeSent(), [{ signal: constants.SIGCHLD, fromProcess: false }]);
      waitForChild(pid, true);
    },
  },
  {
    name: "a wait of more years than the kernel counts seconds for is not over at once",
    run() {
      const { reader, writer } = pipe();
      for (const timeoutMs of [2 ** 32 * 1000, 1e300]) {
        using signals = new SignalPipe([SIGUSR2]);
        const script = `sleep 0.05; kill -USR2 ${process.pid}`;
        const { pid } = spawn({ path: "/bin/sh", argv: ["sh", "-c", script], env: ["PATH=/usr/bin:/bin"] });
        const wanted = [reader, signals.fd].map((fd) => ({ fd, events: EPOLLIN }));
        assert.deepEqual(poll(wanted, timeoutMs), [0, EPOLLIN]);
        assert.deepEqual(poll(wanted.slice(1), timeoutMs), [EPOLLIN]);
        waitForChild(pid, true);
      }
      reader.close();
      writer.close();
    },
  },
  {
    name: "a child that was stopped is told once",
    run() {
      const { pid } = spawn({ path: "/bin/sleep", argv: ["sleep", "60"], env: [] });
      assert.equal(hasStopped(pid), false);
      kill(pid, constants.SIGSTOP);
      while (!hasStopped(pid)) poll([], 1);
      assert.equal(hasStopped(pid), false);
      kill(pid, constants.SIGKILL);
      waitForChild(pid, true);
    },
  },
  {
    name: "closing puts the earlier handler back",
    run() {
      using outer = new SignalPipe([SIGUSR2]);
      const inner = new SignalPipe([SIGUSR2]);
      kill(process.pid, SIGUSR2);
      assert.deepEqual(awaitSignal(inner), [SIGUSR2]);
      assert.deepEqual(outer.take(), []);
      inner.close();
      inner.close();
      kill(process.pid, SIGUSR2);
      assert.deepEqual(awaitSignal(outer), [SIGUSR2]);
      assert.equal(isIgnored(SIGUSR2), false);
    },
  },
  {
    name: "an interruptible poll ends with nothing, another waits on",
    run() {
      using signals = new SignalPipe([SIGUSR2]);
      const { reader, writer } = pipe();
      // The loop of signals ends when its pipe does, so a signal that comes before the wait is no hang.
      const script = `while kill -USR2 ${process.pid}; do sleep 0.02; done`;
      const { pid } = spawn({ path: "/bin/sh", argv: ["sh", "-c", script], env: ["PATH=/usr/bin:/bin"] });
      assert.deepEqual(poll([{ fd: reader, events: EPOLLIN }], -1, true), [0]);
      assert.deepEqual(poll([{ fd: reader, events: EPOLLIN }], 60), [0]);
      kill(pid, constants.SIGKILL);
      waitForChild(pid, true);
      write(writer, text("x"));
      assert.equal(read(reader, new Uint8Array(1)), 1);
      assert.ok(awaitSignal(signals).every((signal) => signal === SIGUSR2));
      reader.close();
      writer.close();
    },
  },
];

export const WAITING_CASES: readonly Case[] = [...EPOLL, ...SOCKETS, ...SIGNALS];

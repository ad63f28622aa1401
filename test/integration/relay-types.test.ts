/** Every kind of descriptor, from one process through the broker to another: known for what it is, and the same open file. */
import { expect, test } from "bun:test";
import {
  bind,
  constants,
  isSameFile,
  listen,
  memfdCreate,
  type OwnedFd,
  open,
  pipe,
  read,
  socket,
  socketpair,
  unixAddress,
} from "../../ffi/mod.ts";
import { TestBroker } from "../helpers/broker.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { requires } from "../helpers/requires.ts";
import { makeRuntimeDir } from "../helpers/runtime-dir.ts";
import { DMA_BUF_SOURCES, makeSpecialFds, SPECIAL_FDS } from "../helpers/special-fds.ts";

expectNoFdLeaks();

/** Offers one, takes it over another connection. @returns what the taker has, to be closed by it, and what ls said */
function relay(
  broker: TestBroker,
  fd: OwnedFd,
): { readonly type: string; readonly fd: OwnedFd; readonly listed: unknown } {
  using giver = broker.connect();
  using taker = broker.connect();
  using offer = giver.offer("thing");
  offer.publish([fd]);
  const [listed] = (giver.list("thing")[0]?.details["fds"] ?? []) as readonly unknown[];
  const [item] = taker.take("thing").items;
  if (item === undefined) throw new Error("Nothing was taken");
  return { ...item, listed };
}

/** Passes it on, and looks at what arrives. */
function expectRelayed(broker: TestBroker, fd: OwnedFd, type: string, about: object = {}): void {
  const { fd: taken, type: told, listed } = relay(broker, fd);
  using _t = taken;
  expect([told, listed]).toMatchObject([type, { type, ...about }]);
  expect(isSameFile(fd, process.pid, taken.number)).toBe(true);
}

test("Unix sockets of every type, listeners, pipes and memfds are passed on as what they are", async () => {
  await using broker = new TestBroker();
  using directory = makeRuntimeDir();
  using stack = new DisposableStack();
  for (const [type, name] of [
    [constants.SOCK_STREAM, "unix-stream"],
    [constants.SOCK_DGRAM, "unix-dgram"],
    [constants.SOCK_SEQPACKET, "unix-seqpacket"],
  ] as const) {
    const [near, far] = socketpair(type);
    for (const fd of [near, far]) stack.use(fd);
    expectRelayed(broker, near, name, { access: "read-write" });
  }
  const listener = stack.use(socket(constants.AF_UNIX, constants.SOCK_STREAM));
  bind(listener, unixAddress(`${directory.path}/l`));
  listen(listener, 1);
  expectRelayed(broker, listener, "unix-listener");
  const { reader, writer } = pipe();
  for (const fd of [reader, writer]) stack.use(fd);
  expectRelayed(broker, reader, "pipe", { access: "read" });
  expectRelayed(broker, writer, "pipe", { access: "write" });
  expectRelayed(broker, stack.use(memfdCreate("passed")), "memfd", { access: "read-write", sizeBytes: 0, seals: [] });
});

requires.test(
  [SPECIAL_FDS],
  "TCP connections and listeners, UDP sockets, files, eventfds and pidfds are passed on as what they are",
  async () => {
    await using broker = new TestBroker();
    const kinds = ["tcp", "tcp-listener", "udp", "file", "eventfd", "pidfd"];
    using made = makeSpecialFds(...kinds);
    expect(made.fds).toHaveLength(kinds.length);
    for (const [index, kind] of kinds.entries()) expectRelayed(broker, made.fds[index] as OwnedFd, kind);
    for (const [index, text] of [
      [0, "through tcp"],
      [3, "through a file"],
    ] as const) {
      using taken = relay(broker, made.fds[index] as OwnedFd).fd;
      const bytes = new Uint8Array(100);
      expect(new TextDecoder().decode(bytes.subarray(0, read(taken, bytes) ?? 0))).toBe(text);
    }
  },
);

for (const [kind, exporter] of [
  ["udmabuf", "udmabuf"],
  ["dma-heap", "system"],
] as const) {
  requires.test(
    [SPECIAL_FDS, DMA_BUF_SOURCES[kind]],
    `a dma-buf of ${kind} is passed on, and ls names its exporter`,
    async () => {
      await using broker = new TestBroker();
      using made = makeSpecialFds(kind);
      expectRelayed(broker, made.fds[0] as OwnedFd, "dma-buf", { sizeBytes: 8192, exporter });
    },
  );
}

requires.test([SPECIAL_FDS], "what the built-in rules do not name is refused, with what it is", async () => {
  await using broker = new TestBroker();
  using made = makeSpecialFds("timerfd");
  using namespace = open("/proc/self/ns/net", constants.O_RDONLY);
  expect(() => relay(broker, made.fds[0] as OwnedFd)).toThrow(/no rule allows user \d+ to offer it .*other/);
  expect(() => relay(broker, namespace)).toThrow(/no rule allows user \d+ to offer it as namespace/);
});

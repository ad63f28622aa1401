import { expect, test } from "bun:test";
import {
  accept,
  addSeals,
  type BorrowedFd,
  bind,
  connect,
  constants,
  epollCreate,
  fstat,
  ftruncate,
  getsockname,
  inetAddress,
  listen,
  memfdCreate,
  type OwnedFd,
  open,
  pidfdOpen,
  pipe,
  socket,
  socketpair,
  unixAddress,
} from "../../../ffi/mod.ts";
import { classifyAnonymous, classifyFd } from "../../../lib/broker/classify.ts";
import { expectNoFdLeaks } from "../../helpers/fd-leak.ts";
import { requires } from "../../helpers/requires.ts";
import { makeRuntimeDir } from "../../helpers/runtime-dir.ts";
import { DMA_BUF_SOURCES, makeSpecialFds, SPECIAL_FDS } from "../../helpers/special-fds.ts";

expectNoFdLeaks();

const { AF_INET, AF_INET6, AF_UNIX, SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM, O_RDONLY, O_RDWR } = constants;

function typeOf(fd: OwnedFd): string {
  using owned = fd;
  return classifyFd(owned).type;
}

function pairEnd(type: number): OwnedFd {
  const [near, far] = socketpair(type);
  far.close();
  return near;
}

test("classifyFd() tells sockets by family, type and whether they listen", () => {
  expect(typeOf(pairEnd(SOCK_STREAM))).toBe("unix-stream");
  expect(typeOf(pairEnd(SOCK_DGRAM))).toBe("unix-dgram");
  expect(typeOf(pairEnd(SOCK_SEQPACKET))).toBe("unix-seqpacket");
  const unix = socket(AF_UNIX, SOCK_STREAM);
  bind(unix, unixAddress("@"), "autobind");
  listen(unix, 1);
  expect(typeOf(unix)).toBe("unix-listener");
  expect(typeOf(socket(AF_INET, SOCK_STREAM))).toBe("tcp");
  expect(typeOf(socket(AF_INET6, SOCK_DGRAM))).toBe("udp");
  expect(typeOf(socket(16, SOCK_DGRAM))).toBe("socket"); // AF_NETLINK
  using listener = socket(AF_INET, SOCK_STREAM);
  bind(listener, inetAddress({ family: AF_INET, host: new Uint8Array([127, 0, 0, 1]), port: 0 }));
  listen(listener, 1);
  expect(classifyFd(listener)).toEqual({ type: "tcp-listener", family: "inet", access: "read-write" });
  using client = socket(AF_INET, SOCK_STREAM);
  connect(client, getsockname(listener));
  using accepted = accept(listener)?.fd;
  expect(accepted && classifyFd(accepted).type).toBe("tcp");
});

test("classifyFd() tells IPv4 from IPv6 in sockets of one type", () => {
  const familyOf = (family: number, type: number): string | undefined => {
    using fd = socket(family, type);
    return classifyFd(fd).family;
  };
  for (const type of [SOCK_STREAM, SOCK_DGRAM])
    expect([AF_INET, AF_INET6, AF_UNIX].map((family) => familyOf(family, type))).toEqual(["inet", "inet6", "unix"]);
  expect(familyOf(constants.AF_NETLINK, SOCK_DGRAM)).toBe("netlink");
});

test("classifyFd() knows the size of a memfd as its seals have fixed it, not as it was before", () => {
  using memfd = memfdCreate("x");
  const before = fstat(memfd);
  ftruncate(memfd, 4096);
  addSeals(memfd, constants.F_SEAL_GROW);
  expect(classifyFd(memfd, before)).toMatchObject({ sizeBytes: 4096, seals: ["grow"] });
});

/** Changes what it is just before the kernel is asked about it for that time, as its sender may. @returns whether it got there */
function classifyChanged(time: number): { readonly about: ReturnType<typeof classifyFd>; readonly changed: boolean } {
  using memfd = memfdCreate("x");
  let asked = 0;
  const watched: BorrowedFd = {
    get number() {
      asked += 1;
      if (asked === time) {
        ftruncate(memfd, 4096);
        addSeals(memfd, constants.F_SEAL_GROW);
      }
      return memfd.number;
    },
  };
  return { about: classifyFd(watched), changed: asked >= time };
}

test("classifyFd() tells no seal with a size from before it, at whatever moment both change", () => {
  const told = [];
  for (let time = 1; ; time += 1) {
    const { about, changed } = classifyChanged(time);
    if (!changed) break;
    told.push(`${about.seals} ${about.sizeBytes}`);
  }
  expect([...new Set(told)]).toEqual(["grow 4096", " 0"]);
});

test("classifyFd() tells memfds with their seals, files and directories with their access", () => {
  using memfd = memfdCreate("x");
  ftruncate(memfd, 4096);
  addSeals(memfd, constants.F_SEAL_SHRINK | constants.F_SEAL_SEAL);
  expect(classifyFd(memfd)).toEqual({
    type: "memfd",
    access: "read-write",
    sizeBytes: 4096,
    seals: expect.arrayContaining(["seal", "shrink"]),
  });
  using file = open("/etc/passwd", O_RDONLY);
  expect(classifyFd(file)).toMatchObject({ type: "file", access: "read" });
  expect(typeOf(open("/dev/null", O_RDWR))).toBe("device");
  expect(typeOf(open("/", O_RDONLY))).toBe("directory");
  using path = open("/", constants.O_PATH);
  expect(classifyFd(path)).toEqual({ type: "other", access: "none", isPath: true });
});

test("classifyFd() is not misled by a file that is called like something else", () => {
  using directory = makeRuntimeDir();
  for (const name of ["memfd:x", "anon_inode:[eventfd]", "pidfd:[1]", "dmabuf:", "net:[1]"])
    expect(typeOf(open(`${directory.path}/${name}`, O_RDWR | constants.O_CREAT, 0o600))).toBe("file");
});

test("classifyFd() tells namespaces, which the kernel calls regular files, and leaves what is in procfs a file", () => {
  for (const name of ["net", "user", "pid_for_children"])
    expect(typeOf(open(`/proc/self/ns/${name}`, O_RDONLY))).toBe("namespace");
  expect(typeOf(open("/proc/self/mem", O_RDONLY))).toBe("file");
});

test("classifyFd() tells pipes, pidfds and what holds other descriptors", () => {
  const { reader, writer } = pipe();
  expect(classifyFd(reader)).toEqual({ type: "pipe", access: "read" });
  expect(classifyFd(writer)).toEqual({ type: "pipe", access: "write" });
  for (const fd of [reader, writer]) fd.close();
  expect(typeOf(pidfdOpen(process.pid))).toBe("pidfd");
  using epoll = epollCreate();
  expect(classifyFd(epoll)).toMatchObject({ type: "other", holdsOthers: true });
});

requires.test([SPECIAL_FDS], "classifyFd() tells eventfds and timerfds", () => {
  using made = makeSpecialFds("eventfd", "timerfd");
  expect(made.fds.map((fd) => classifyFd(fd))).toEqual([
    { type: "eventfd", access: "read-write" },
    { type: "other", access: "read-write" },
  ]);
});

// Newer kernels refuse to send an io_uring to anybody, and others to make one.
test("classifyAnonymous() tells an io_uring, which holds other descriptors", () => {
  expect(classifyAnonymous("[io_uring]", "read-write")).toMatchObject({ type: "other", holdsOthers: true });
});

requires.test([SPECIAL_FDS], "classifyFd() tells a seccomp listener, which makes other descriptors", () => {
  using made = makeSpecialFds("seccomp");
  expect(made.fds.map((fd) => classifyFd(fd))).toEqual([{ type: "other", access: "read-write", holdsOthers: true }]);
});

for (const [kind, exporter] of [
  ["udmabuf", "udmabuf"],
  ["dma-heap", "system"],
] as const) {
  requires.test([SPECIAL_FDS, DMA_BUF_SOURCES[kind]], `classifyFd() tells a dma-buf of ${kind} by its exporter`, () => {
    using made = makeSpecialFds(kind);
    expect(made.fds.map((fd) => classifyFd(fd))).toMatchObject([{ type: "dma-buf", sizeBytes: 8192, exporter }]);
  });
}

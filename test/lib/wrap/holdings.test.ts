import { afterEach, beforeEach, expect, mock, spyOn, test } from "bun:test";
import { constants, duplicateFd, epollAdd, epollCreate, socket } from "../../../ffi/mod.ts";
import { HoldingsFinder, registrationsIn } from "../../../lib/wrap/holdings.ts";

/** What performance.now() says: time goes by where a test says so, however long we are stopped. */
let nowMs = 1000;
beforeEach(() => void spyOn(performance, "now").mockImplementation(() => nowMs));
afterEach(() => mock.restore());

const INFO = `pos:	0
flags:	02
mnt_id:	16
ino:	2061
tfd:        7 events: 8000201d data:               4d  pos:0 ino:8f3a sdev:8
tfd:       12 events:       19 data: ffffffff00000001  pos:0 ino:8f3a sdev:8
tfd:        7 events:       19 data:                7  pos:0 ino:8f3b sdev:8
`;

test("registrationsIn() finds what an epoll set holds of one socket, by its inode", () => {
  expect(registrationsIn(INFO, 3, 0x8f3an)).toEqual([
    { epoll: 3, number: 7, events: 0x8000201d, data: 0x4dn },
    { epoll: 3, number: 12, events: 0x19, data: 0xffffffff00000001n },
  ]);
  expect(registrationsIn(INFO, 3, 1n)).toEqual([]);
  expect(registrationsIn("", 3, 0x8f3an)).toEqual([]);
});

test("HoldingsFinder finds the duplicates of a socket and the epoll sets that hold it, under each number", () => {
  using first = socket(constants.AF_INET, constants.SOCK_STREAM);
  using stranger = socket(constants.AF_INET, constants.SOCK_STREAM);
  using epoll = epollCreate();
  using idle = epollCreate();
  const finder = new HoldingsFinder();
  const find = (): ReturnType<HoldingsFinder["findAll"]> => finder.findAll(process.pid, first.number, first);
  epollAdd(epoll, stranger, constants.EPOLLIN, 1);
  epollAdd(idle, stranger, constants.EPOLLIN, 2);
  expect(find()).toEqual({ numbers: [first.number], registrations: [] });
  epollAdd(epoll, first, constants.EPOLLOUT, 3);
  const entry = { epoll: epoll.number, number: first.number, events: constants.EPOLLOUT, data: 3n };
  expect(find().registrations).toMatchObject([{ ...entry, events: expect.any(Number) }]);
  using second = duplicateFd(first);
  epollAdd(epoll, second, constants.EPOLLIN, 4);
  const { numbers, registrations } = find();
  expect([...numbers].sort()).toEqual([first.number, second.number].sort());
  expect(registrations.map(({ number, data }) => [number, data]).sort()).toEqual(
    [
      [first.number, 3n],
      [second.number, 4n],
    ].sort(),
  );
});

test("findRegistrations() finds an epoll set that is made between two looks, when it was told of it", () => {
  const finder = new HoldingsFinder();
  using keep = new DisposableStack();
  const sockets = Array.from({ length: 24 }, () => keep.use(socket(constants.AF_INET, constants.SOCK_STREAM)));
  for (const each of sockets) expect(finder.findRegistrations(process.pid, each.number, each)).toEqual([]);
  for (const [index, each] of sockets.entries()) {
    finder.expectEpollSet();
    if (index % 2 === 0) expect(finder.findRegistrations(process.pid, each.number, each)).toEqual([]); // not there yet
    const epoll = keep.use(epollCreate());
    epollAdd(epoll, each, constants.EPOLLIN, index);
    expect(finder.findRegistrations(process.pid, each.number, each)).toMatchObject([
      { epoll: epoll.number, number: each.number, data: BigInt(index) },
    ]);
  }
});

test("findRegistrations() finds an epoll set that has taken another number since it looked", () => {
  const finder = new HoldingsFinder();
  using keep = new DisposableStack();
  const sockets = Array.from({ length: 12 }, () => keep.use(socket(constants.AF_INET, constants.SOCK_STREAM)));
  const [first, last] = [sockets[0], sockets.at(-1)];
  if (first === undefined || last === undefined) throw new Error("no sockets");
  const epoll = epollCreate();
  expect(finder.findRegistrations(process.pid, last.number, last)).toEqual([]);
  first.close();
  const moved = keep.use(duplicateFd(epoll));
  epoll.close();
  epollAdd(moved, last, constants.EPOLLIN, 1);
  expect(finder.findRegistrations(process.pid, last.number, last)).toMatchObject([{ epoll: moved.number }]);
});

test("findRegistrations() overlooks an epoll set that is made 20 ms after it was told of it, but not for longer than that", () => {
  using keep = new DisposableStack();
  const finder = new HoldingsFinder();
  const [first, last] = [1, 2].map(() => keep.use(socket(constants.AF_INET, constants.SOCK_STREAM)));
  if (first === undefined || last === undefined) throw new Error("no sockets");
  finder.expectEpollSet();
  nowMs += 21;
  expect(finder.findRegistrations(process.pid, first.number, first)).toEqual([]);
  const epoll = keep.use(epollCreate());
  epollAdd(epoll, last, constants.EPOLLIN, 1);
  nowMs += 20;
  expect(finder.findRegistrations(process.pid, last.number, last)).toEqual([]);
  nowMs += 1;
  expect(finder.findRegistrations(process.pid, last.number, last)).toMatchObject([{ epoll: epoll.number }]);
});

test("known() tells the epoll sets of the last survey, and of none while one is being made", () => {
  using probe = socket(constants.AF_INET, constants.SOCK_STREAM);
  using epoll = epollCreate();
  const finder = new HoldingsFinder();
  expect(finder.known(process.pid)).toBeUndefined();
  finder.findRegistrations(process.pid, probe.number, probe);
  const survey = finder.known(process.pid);
  expect(survey?.epolls).toContain(epoll.number);
  expect(survey?.untilMs).toBeGreaterThan(nowMs);
  finder.expectEpollSet();
  expect(finder.known(process.pid)).toBeUndefined();
  finder.findRegistrations(process.pid, probe.number, probe);
  expect(finder.known(process.pid)).toBeUndefined();
});

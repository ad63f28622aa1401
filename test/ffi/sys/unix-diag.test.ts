/** What the kernel lists agrees with what the descriptors say. */
import { expect, test } from "bun:test";
import {
  accept,
  bind,
  connect,
  constants,
  fstat,
  getCookie,
  listen,
  listUnixSockets,
  type OwnedFd,
  socket,
  unixAddress,
} from "../../../ffi/mod.ts";
import { expectNoFdLeaks } from "../../helpers/fd-leak.ts";

expectNoFdLeaks();
const SERVER = `@shmlink-test/${process.pid}/server`;
const CLIENT = `@shmlink-test/${process.pid}/client`;

function inodeOf(fd: OwnedFd): number {
  return Number(fstat(fd).ino);
}

test("listUnixSockets() tells both ends of a connection: inode, cookie, name, peer and user", () => {
  using listener = socket(constants.AF_UNIX, constants.SOCK_STREAM);
  bind(listener, unixAddress(SERVER));
  listen(listener, 1);
  using client = socket(constants.AF_UNIX, constants.SOCK_STREAM);
  bind(client, unixAddress(CLIENT));
  connect(client, unixAddress(SERVER));
  const named = (): ReturnType<typeof listUnixSockets> =>
    listUnixSockets().filter(({ name }) => name === SERVER || name === CLIENT);
  expect(named()).toMatchObject([{ name: CLIENT }]); // nobody has accepted it
  const accepted = accept(listener);
  using server = accepted?.fd;
  if (server === undefined) throw new Error("The connection that was made cannot be accepted");
  const rest = { fileInode: undefined, uid: process.getuid?.() };
  const ends = [
    { ...rest, name: SERVER, inode: inodeOf(server), peer: inodeOf(client), cookie: getCookie(server) },
    { ...rest, name: CLIENT, inode: inodeOf(client), peer: inodeOf(server), cookie: getCookie(client) },
  ];
  expect(new Set(named())).toEqual(new Set(ends));
  client.close();
  expect(named()).toEqual([
    { ...rest, name: SERVER, inode: inodeOf(server), peer: undefined, cookie: getCookie(server) },
  ]);
});

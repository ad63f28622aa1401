/** What counts as a doorbell: only what can be rung without waiting for whoever else has it. */
import { expect, test } from "bun:test";
import { constants, type OwnedFd, open, pipe, socket, socketpair } from "../../../ffi/mod.ts";
import { isDoorbell } from "../../../lib/broker/peer-doorbell.ts";
import { expectNoFdLeaks } from "../../helpers/fd-leak.ts";

expectNoFdLeaks();

function rings(fd: OwnedFd): boolean {
  using _fd = fd;
  return isDoorbell(fd);
}

test("a doorbell is a Unix stream socket and nothing else, TCP least of all", () => {
  for (const end of socketpair(constants.SOCK_STREAM)) expect(rings(end)).toBe(true);
  for (const end of socketpair(constants.SOCK_DGRAM)) expect(rings(end)).toBe(false);
  for (const end of Object.values(pipe())) expect(rings(end)).toBe(false);
  expect(rings(socket(constants.AF_INET, constants.SOCK_STREAM))).toBe(false);
  expect(rings(open("/dev/null", constants.O_RDWR))).toBe(false);
});

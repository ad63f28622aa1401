import { expect, test } from "bun:test";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { bind, constants, listen, type OwnedFd, shutdown, socket, unixAddress } from "../../../ffi/mod.ts";
import { isServed, sweepSockets, whileUnswept } from "../../../lib/wrap/sweep.ts";
import { expectNoFdLeaks } from "../../helpers/fd-leak.ts";
import { makeRuntimeDir } from "../../helpers/runtime-dir.ts";

expectNoFdLeaks();

function listenAt(path: string): OwnedFd {
  const fd = socket(constants.AF_UNIX, constants.SOCK_STREAM);
  bind(fd, unixAddress(path));
  listen(fd, 1);
  return fd;
}

test("sweepSockets() removes sockets that nobody listens at, and nothing else", () => {
  using dir = makeRuntimeDir();
  const at = (name: string): string => join(dir.path, name);
  listenAt(at("4-127.0.0.1-80-1-1.tcp")).close();
  using _alive = listenAt(at("4-127.0.0.1-81-1-1.tcp"));
  using ended = listenAt(at("4-127.0.0.1-82-1-1.tcp"));
  shutdown(ended);
  listenAt(at("other")).close();
  writeFileSync(at("4-127.0.0.1-83-1-1.tcp"), "");
  expect(sweepSockets(dir.path)).toBe(1);
  expect([80, 81, 82, 83].map((port) => existsSync(at(`4-127.0.0.1-${port}-1-1.tcp`)))).toEqual([
    false,
    true,
    true,
    true,
  ]);
  expect(existsSync(at("other"))).toBe(true);
});

test("sweepSockets() leaves a folder alone in which somebody makes a socket", () => {
  using dir = makeRuntimeDir();
  listenAt(join(dir.path, "4-127.0.0.1-80-1-1.tcp")).close();
  whileUnswept(dir.path, () => expect(sweepSockets(dir.path)).toBe(0));
  expect(sweepSockets(dir.path)).toBe(1);
});

test("sweepSockets() of a folder that is not there has nothing to do", () => {
  expect(sweepSockets("/nonexistent/folder")).toBe(0);
});

test("isServed() tells a listener from a file that was left behind", () => {
  using dir = makeRuntimeDir();
  const path = join(dir.path, "s");
  expect(isServed(path)).toBe(false);
  const listener = listenAt(path);
  expect(isServed(path)).toBe(true);
  listener.close();
  expect(isServed(path)).toBe(false);
});

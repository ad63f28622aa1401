import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bind, constants, type OwnedFd, recv, socket, unixAddress } from "../../../ffi/mod.ts";
import { Notifier } from "../../../lib/transport/notify.ts";
import { openFds } from "../../helpers/fd-leak.ts";

const root = mkdtempSync(join(tmpdir(), "shmlink-notify-"));
afterAll(() => rmSync(root, { recursive: true }));

function manager(address: string): OwnedFd {
  const fd = socket(constants.AF_UNIX, constants.SOCK_DGRAM | constants.SOCK_NONBLOCK);
  bind(fd, unixAddress(address));
  return fd;
}

function heard(fd: OwnedFd): string | null {
  const bytes = new Uint8Array(4096);
  const count = recv(fd, bytes, 0);
  return count === null ? null : new TextDecoder().decode(bytes.subarray(0, count));
}

for (const address of [join(root, "notify"), `@shmlink-notify-${process.pid}`]) {
  test(`messages reach the manager at ${address.startsWith("@") ? "an abstract address" : "a path"}`, () => {
    const before = openFds();
    {
      using fd = manager(address);
      const notifier = new Notifier({ NOTIFY_SOCKET: address });
      expect(notifier.isEnabled).toBe(true);
      expect(notifier.ready("Serving\nall")).toBe(true);
      notifier.status("3 sessions");
      notifier.watchdog();
      notifier.stopping();
      expect([heard(fd), heard(fd), heard(fd), heard(fd), heard(fd)]).toEqual([
        "READY=1\nSTATUS=Serving all",
        "STATUS=3 sessions",
        "WATCHDOG=1",
        "STOPPING=1",
        null,
      ]);
    }
    expect(openFds()).toEqual(before);
  });
}

test("without a manager, with a strange address or a dead one, nothing fails", () => {
  expect(new Notifier({}).ready("x")).toBe(false);
  expect(new Notifier({ NOTIFY_SOCKET: "vsock:2:1" }).isEnabled).toBe(false);
  expect(new Notifier({ NOTIFY_SOCKET: join(root, "nobody") }).ready("x")).toBe(false);
});

test("the watchdog interval is half of what the manager allows, and only for us", () => {
  const NOTIFY_SOCKET = "@x";
  const interval = (env: Record<string, string>): number | undefined => new Notifier(env, 42).watchdogIntervalMs;
  expect(interval({ NOTIFY_SOCKET, WATCHDOG_USEC: "3000000" })).toBe(1500);
  expect(interval({ NOTIFY_SOCKET, WATCHDOG_USEC: "3000000", WATCHDOG_PID: "42" })).toBe(1500);
  expect(interval({ NOTIFY_SOCKET, WATCHDOG_USEC: "3000000", WATCHDOG_PID: "43" })).toBeUndefined();
  expect(interval({ NOTIFY_SOCKET, WATCHDOG_USEC: "1" })).toBe(1);
  expect(interval({ NOTIFY_SOCKET, WATCHDOG_USEC: "soon" })).toBeUndefined();
  expect(interval({ NOTIFY_SOCKET, WATCHDOG_USEC: "0" })).toBeUndefined();
  expect(interval({ NOTIFY_SOCKET })).toBeUndefined();
  expect(interval({ WATCHDOG_USEC: "3000000" })).toBeUndefined();
});

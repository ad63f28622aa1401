import { expect, test } from "bun:test";
import { readFileSync, realpathSync, unlinkSync } from "node:fs";
import { accept, borrowFd, constants, OwnedFd, pidfdSendSignal, poll, socketpair } from "../../../ffi/mod.ts";
import { peerIdentity } from "../../../lib/transport/peer.ts";
import { listenOn } from "../../../lib/transport/socket-path.ts";
import { openFds } from "../../helpers/fd-leak.ts";

test("peerIdentity() tells the process that made the socket pair: ourselves", () => {
  const before = openFds();
  const [a, b] = socketpair(constants.SOCK_STREAM);
  const identity = peerIdentity(a);
  expect(identity.pid).toBe(process.pid);
  expect(identity.uid).toBe(process.getuid?.() ?? -1);
  expect(identity.gid).toBe(process.getgid?.() ?? -1);
  expect(identity.exe).toBe(realpathSync(process.execPath));
  const line = readFileSync("/proc/self/cgroup", "utf8")
    .split("\n")
    .find((one) => one.startsWith("0::"));
  expect(identity.cgroup).toBe(line?.slice(3) ?? "");
  if (identity.pidfd !== null) {
    expect(pidfdSendSignal(identity.pidfd, 0)).toBe(true);
    identity.pidfd.close();
  }
  a.close();
  b.close();
  expect(openFds()).toEqual(before);
});

test("peerIdentity() of a process that has ended has its number and no path", async () => {
  const program = `
    import { connect } from "node:net";
    connect(process.argv[1], () => process.exit(0));
  `;
  const path = `/tmp/shmlink-peer-${process.pid}`;
  using listener = listenOn(path);
  const child = Bun.spawn([process.execPath, "-e", program, path], { stdout: "ignore", stderr: "inherit" });
  await child.exited;
  poll([{ fd: borrowFd(listener.number), events: constants.EPOLLIN }], -1);
  using connected = accept(listener)?.fd ?? new OwnedFd(-1);
  const identity = peerIdentity(connected);
  identity.pidfd?.close();
  expect(identity.pid).toBe(child.pid);
  expect(identity.exe).toBe("");
  unlinkSync(path);
});

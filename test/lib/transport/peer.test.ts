import { expect, test } from "bun:test";
import { readFileSync, realpathSync, unlinkSync } from "node:fs";
import {
  accept,
  borrowFd,
  constants,
  errno,
  OwnedFd,
  peerPidfd,
  pidfdSendSignal,
  poll,
  SyscallError,
  socket,
  socketpair,
} from "../../../ffi/mod.ts";
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

/** As a kernel would answer for `failure`, whoever the peer is. */
function identityWhen(failure: number): ReturnType<typeof peerIdentity> {
  const [a, b] = socketpair(constants.SOCK_STREAM);
  using _a = a;
  using _b = b;
  return peerIdentity(a, () => {
    throw new SyscallError("getsockopt SO_PEERPIDFD", failure);
  });
}

test("peerIdentity() says nothing of the process that has the number of a peer which is reaped", () => {
  for (const failure of [errno.ESRCH, errno.EINVAL, errno.ENODATA])
    expect(identityWhen(failure)).toMatchObject({ pid: process.pid, pidfd: null, exe: "", cgroup: "" });
  expect(() => identityWhen(errno.EMFILE)).toThrow("EMFILE");
});

test("peerIdentity() on a kernel that has no pidfds of peers believes the number", () => {
  const [a, b] = socketpair(constants.SOCK_STREAM);
  using _a = a;
  using _b = b;
  expect(peerIdentity(a, () => null).exe).toBe(realpathSync(process.execPath));
});

test("peerPidfd() tells a socket without a peer from a kernel that knows no such thing", () => {
  using alone = socket(constants.AF_UNIX, constants.SOCK_STREAM);
  const [a, b] = socketpair(constants.SOCK_STREAM);
  using _a = a;
  using _b = b;
  using pidfd = peerPidfd(a);
  if (pidfd !== null) expect(() => peerPidfd(alone)).toThrow(SyscallError);
});

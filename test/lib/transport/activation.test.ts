import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  constants,
  getStatusFlags,
  type OwnedFd,
  open,
  pipe,
  setNonBlocking,
  socket,
  socketpair,
  spawn,
  waitForChild,
} from "../../../ffi/mod.ts";
import { takeListeners } from "../../../lib/transport/activation.ts";
import { listenOn } from "../../../lib/transport/socket-path.ts";
import { requires } from "../../helpers/requires.ts";

const root = mkdtempSync(join(tmpdir(), "shmlink-activation-"));
afterAll(() => rmSync(root, { recursive: true }));
const PROGRAM = join(import.meta.dir, "../../fixtures/programs/take-listeners.ts");
// LISTEN_PID is the program's own: sh knows it, and exec keeps it.
const OWN_PID = 'LISTEN_PID=$$; export LISTEN_PID; exec "$@"';

type Report = {
  before: number;
  after: number;
  numbers?: number[];
  closeOnExec?: boolean[];
  code?: string;
  message?: string;
};

async function activate(fds: readonly OwnedFd[], env: Record<string, string>, script = OWN_PID): Promise<Report> {
  const out = pipe();
  using nothing = open("/dev/null", constants.O_RDWR);
  const wiring = [nothing, out.writer, { number: 2 }, ...fds].map(({ number }, to) => ({ from: number, to }));
  const { pid } = spawn({
    path: "/bin/sh",
    argv: ["sh", "-c", script, "sh", process.execPath, PROGRAM],
    env: Object.entries({ PATH: process.env["PATH"] ?? "", ...env }).map(([name, value]) => `${name}=${value}`),
    fds: wiring,
  });
  out.writer.close();
  for (const fd of fds) fd.close();
  const text = await Bun.file(`/proc/self/fd/${out.reader.number}`).text();
  waitForChild(pid, true);
  out.reader.close();
  return JSON.parse(text) as Report;
}

let nSockets = 0;
function listener(): OwnedFd {
  nSockets += 1;
  return listenOn(join(root, `s${nSockets}`));
}

test("sockets of the right name are taken, close-on-exec, and the variables are gone", async () => {
  const report = await activate([listener(), listener()], { LISTEN_FDS: "2", LISTEN_FDNAMES: "shmlink:shmlink" });
  expect(report).toEqual({ before: 3, numbers: [3, 4], closeOnExec: [true, true], after: 0 });
});

test("accept(2) on a socket that is taken does not wait, also where the service manager has made it so", async () => {
  const waiting = listener();
  setNonBlocking(waiting, false);
  using ours = waiting.dup();
  expect((await activate([waiting], { LISTEN_FDS: "1" })).numbers).toEqual([3]);
  expect(getStatusFlags(ours) & constants.O_NONBLOCK).not.toBe(0);
});

test("without LISTEN_FDNAMES every socket is meant", async () => {
  expect((await activate([listener()], { LISTEN_FDS: "1" })).numbers).toEqual([3]);
});

test("variables for another process are nobody's, and removed", async () => {
  const report = await activate([listener()], { LISTEN_FDS: "1", LISTEN_PID: "1" }, 'exec "$@"');
  expect(report).toEqual({ before: 2, after: 0 });
  expect(takeListeners("shmlink", {})).toBeUndefined();
});

test("a leftover is named", async () => {
  const report = await activate([listener(), listener()], { LISTEN_FDS: "2", LISTEN_FDNAMES: "shmlink:metrics" });
  expect([report.code, report.message]).toEqual([
    "invalid",
    'Cannot take inherited descriptor 4 "metrics": nobody asked for it, set FileDescriptorName=shmlink (--fdname=shmlink)',
  ]);
});

test("what is not a listening Unix stream socket is refused", async () => {
  const [a, b] = socketpair(constants.SOCK_STREAM);
  const wrong: OwnedFd[] = [
    open("/dev/null", constants.O_RDONLY),
    a,
    b,
    socket(constants.AF_UNIX, constants.SOCK_DGRAM),
    socket(constants.AF_INET, constants.SOCK_STREAM),
  ];
  for (const fd of wrong) {
    const report = await activate([fd], { LISTEN_FDS: "1", LISTEN_FDNAMES: "shmlink" });
    expect(report.message).toContain('descriptor 3 "shmlink": a listening Unix stream socket is wanted');
  }
});

test("a count that is none, and a descriptor that is not open, are refused", async () => {
  expect((await activate([], { LISTEN_FDS: "many" })).message).toContain('LISTEN_FDS is "many"');
  expect((await activate([listener()], { LISTEN_FDS: "50" })).message).toMatch(/descriptor \d+: .* it is not open/);
});

requires.test(
  [requires.program("systemd-socket-activate", "systemd")],
  "systemd-socket-activate passes its socket on",
  async () => {
    const path = join(root, "activated");
    const child = Bun.spawn(["systemd-socket-activate", "-l", path, "--fdname=shmlink", process.execPath, PROGRAM], {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "ignore",
    });
    const connected = await new Promise<{ destroy(): void }>((resolve) => {
      const attempt = (): void => {
        const client = connect(path, () => resolve(client));
        client.once("error", () => setTimeout(attempt, 20));
      };
      attempt();
    });
    const text = await new Response(child.stdout).text();
    await child.exited;
    connected.destroy();
    expect(JSON.parse(text)).toEqual({ before: 3, numbers: [3], closeOnExec: [true], after: 0 });
  },
);

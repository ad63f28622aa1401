import { afterAll, expect, test } from "bun:test";
import { chmodSync, existsSync, lstatSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { accept, connect, constants, OwnedFd, socket, unixAddress } from "../../../ffi/mod.ts";
import { FailureError } from "../../../lib/errors.ts";
import {
  brokerSocketPath,
  checkSocketDirectory,
  listenOn,
  prepareSocketDirectory,
  removeSocket,
} from "../../../lib/transport/socket-path.ts";
import { openFds } from "../../helpers/fd-leak.ts";

const root = mkdtempSync(join(tmpdir(), "shmlink-path-"));
afterAll(() => rmSync(root, { recursive: true }));
const uid = process.getuid?.() ?? 0;
let nDirectories = 0;

function directory(name = "run", mode = 0o755): string {
  nDirectories += 1;
  mkdirSync(join(root, String(nDirectories)));
  const path = join(root, String(nDirectories), name);
  mkdirSync(path);
  chmodSync(path, mode);
  return path;
}

function refusal(action: () => unknown): FailureError {
  try {
    action();
  } catch (error) {
    if (error instanceof FailureError) return error;
    throw error;
  }
  throw new Error("it was not refused");
}

test("brokerSocketPath() takes SHMLINK_SOCKET, then XDG_RUNTIME_DIR, then the place for the user", () => {
  expect(brokerSocketPath({ SHMLINK_SOCKET: "/a/b", XDG_RUNTIME_DIR: "/run/user/5" }, 5)).toBe("/a/b");
  expect(brokerSocketPath({ SHMLINK_SOCKET: "b" }, 5)).toBe(join(process.cwd(), "b"));
  expect(brokerSocketPath({ SHMLINK_SOCKET: "", XDG_RUNTIME_DIR: "/run/user/5" }, 5)).toBe(
    "/run/user/5/shmlink/broker.sock",
  );
  expect(brokerSocketPath({ XDG_RUNTIME_DIR: "relative" }, 5)).toBe("/tmp/shmlink-5/broker.sock");
  expect(brokerSocketPath({ XDG_RUNTIME_DIR: "/proc" }, 5), "root's, as under sudo -E").toBe(
    "/tmp/shmlink-5/broker.sock",
  );
  expect(brokerSocketPath({}, 0)).toBe("/run/shmlink/broker.sock");
});

test("a path longer than a socket address is refused with its length", () => {
  const fits = `/${"x".repeat(106)}`;
  expect(brokerSocketPath({ SHMLINK_SOCKET: fits }, 5)).toBe(fits);
  const error = refusal(() => brokerSocketPath({ SHMLINK_SOCKET: `${fits}y` }, 5));
  expect(error.message).toEndWith("it is 108 bytes long, 107 is the most; set SHMLINK_SOCKET to a shorter path");
  expect(refusal(() => listenOn(`${fits}é`)).message).toContain("109 bytes");
});

test("prepareSocketDirectory() makes the directory 0700 and takes it again", () => {
  const path = join(directory(), "shmlink", "broker.sock");
  prepareSocketDirectory(path, uid);
  expect(lstatSync(join(path, "..")).mode & 0o7777).toBe(0o700);
  prepareSocketDirectory(path, uid);
});

test("a directory of our own name is refused with another mode, another owner, or as a link", () => {
  const open = join(directory("shmlink", 0o755), "broker.sock");
  expect(refusal(() => prepareSocketDirectory(open, uid)).message).toContain(
    "its mode is 0755, 0700 is wanted; run chmod 700",
  );
  const foreign = join(directory("shmlink-4711", 0o700), "broker.sock");
  expect(refusal(() => prepareSocketDirectory(foreign, uid + 1)).message).toContain(
    `it belongs to user ${uid}, not to ${uid + 1}`,
  );
  const link = join(directory(), "shmlink");
  symlinkSync(directory("real", 0o700), link);
  expect(refusal(() => prepareSocketDirectory(join(link, "s"), uid)).message).toContain(
    "it is a symbolic link; remove it",
  );
  const file = join(directory(), "shmlink");
  writeFileSync(file, "");
  expect(refusal(() => prepareSocketDirectory(join(file, "s"), uid)).message).toContain("it is not a directory");
});

test("a directory that the user chose may be readable, sticky or a link, but not open to strangers", () => {
  for (const mode of [0o700, 0o755, 0o1777]) prepareSocketDirectory(join(directory("any", mode), "s"), uid);
  const link = join(directory(), "link");
  symlinkSync(directory("real", 0o755), link);
  prepareSocketDirectory(join(link, "s"), uid);
  const writable = join(directory("any", 0o777), "s");
  expect(refusal(() => prepareSocketDirectory(writable, uid)).message).toContain(
    "its mode is 0777, others could replace",
  );
  const bad = join(directory(), "bad");
  symlinkSync(join(writable, ".."), bad);
  expect(refusal(() => prepareSocketDirectory(join(bad, "s"), uid)).message).toContain("0777");
});

test("a directory above that does not exist is named; the check alone makes nothing", () => {
  const path = join(directory(), "none", "shmlink", "s");
  expect(refusal(() => prepareSocketDirectory(path, uid)).message).toContain("the directory above it does not exist");
  checkSocketDirectory(path, uid);
  expect(existsSync(join(path, ".."))).toBe(false);
});

test("listenOn() makes a socket of mode 0600 that accepts, and leaves no lock file", () => {
  const before = openFds();
  const path = join(directory(), "s");
  {
    using listener = listenOn(path);
    expect(lstatSync(path).mode & 0o777).toBe(0o600);
    using client = socket(constants.AF_UNIX, constants.SOCK_STREAM);
    connect(client, unixAddress(path));
    using accepted = accept(listener)?.fd ?? new OwnedFd(-1);
    expect(accepted.closed).toBe(false);
    expect(accept(listener)).toBeNull(); // non-blocking
    expect(existsSync(`${path}.lock`)).toBe(false);
  }
  expect(openFds()).toEqual(before);
});

test("listenOn() refuses where somebody listens and replaces what a dead one left", () => {
  const path = join(directory(), "s");
  const first = listenOn(path);
  const error = refusal(() => listenOn(path));
  expect([error.code, error.message]).toEqual([
    "name-in-use",
    `Cannot listen on "${path}": a broker is running there; use that one, or set SHMLINK_SOCKET to another path`,
  ]);
  first.close();
  expect(existsSync(path)).toBe(true);
  listenOn(path).close();
});

test("listenOn() leaves alone what is not a socket, and says why a directory does not do", () => {
  const path = join(directory(), "s");
  writeFileSync(path, "precious");
  expect(refusal(() => listenOn(path)).message).toContain(
    "is not a socket of ours; remove it, or set SHMLINK_SOCKET to another path",
  );
  expect(existsSync(`${path}.lock`)).toBe(false);
  const lost = refusal(() => listenOn(join(root, "none", "s")));
  expect(lost.code).toBe("no-broker");
  expect(lost.message).toEndWith("no such file or directory (ENOENT); set SHMLINK_SOCKET to another path");
});

test("removeSocket() removes a dead socket and nothing else", () => {
  const path = join(directory(), "s");
  const listener = listenOn(path);
  removeSocket(path);
  expect(existsSync(path)).toBe(true);
  listener.close();
  removeSocket(path);
  expect(existsSync(path)).toBe(false);
  removeSocket(path);
});

test("of many brokers that start at the same time over a stale socket exactly one listens", async () => {
  const path = join(directory(), "s");
  listenOn(path).close();
  const program = join(import.meta.dir, "../../fixtures/programs/listen-once.ts");
  const racers = Array.from({ length: 6 }, () =>
    Bun.spawn([process.execPath, program, path], { stdin: "pipe", stdout: "pipe", stderr: "inherit" }),
  );
  const outcomes = await Promise.all(
    racers.map(async (racer) => {
      const reader = racer.stdout.getReader();
      const { value } = await reader.read();
      return new TextDecoder().decode(value).trim();
    }),
  );
  for (const racer of racers) racer.stdin.end();
  await Promise.all(racers.map(({ exited }) => exited));
  expect(outcomes.sort()).toEqual(["listening", ...Array.from({ length: 5 }, () => "name-in-use")]);
});

import { expect, test } from "bun:test";
import { appendFileSync, existsSync, mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type OwnedFd, write } from "../../../ffi/mod.ts";
import { lastComplaint, logEnd, openLog, ownLogKeeper } from "../../../lib/client/broker-log.ts";
import { expectNoFdLeaks } from "../../helpers/fd-leak.ts";
import { makeRuntimeDir } from "../../helpers/runtime-dir.ts";

expectNoFdLeaks();

test("openLog() puts a log above 1 MiB aside, keeps one, and appends to a smaller one", () => {
  using dir = makeRuntimeDir();
  const [socket, log, old] = ["broker.sock", "broker.log", "broker.log.1"].map((name) => join(dir.path, name)) as [
    string,
    string,
    string,
  ];
  openLog(socket).close();
  expect(statSync(log).mode & 0o777).toBe(0o600);
  writeFileSync(log, "small\n");
  openLog(socket).close();
  expect(readFileSync(log, "utf8")).toBe("small\n");
  for (const name of ["first", "second"]) {
    writeFileSync(log, name.padEnd((1 << 20) + 1));
    openLog(socket).close();
    expect(readFileSync(old, "utf8")).toStartWith(name);
    expect(readFileSync(log, "utf8")).toBe("");
  }
  expect(existsSync(`${old}.1`)).toBe(false);
});

test("lastComplaint() finds what was said since, also in a log that was begun anew, and at the end of a long one", () => {
  using dir = makeRuntimeDir();
  const socket = join(dir.path, "broker.sock");
  const log = join(dir.path, "broker.log");
  writeFileSync(log, "shmlink: old\n".padEnd(2000, "."));
  const start = logEnd(socket);
  expect(start).toBe(2000);
  expect(lastComplaint(socket, start)).toBeUndefined();
  appendFileSync(log, "\nshmlink: new\nmore\n");
  expect(lastComplaint(socket, start)).toBe("new");
  writeFileSync(log, "shmlink: other\n");
  expect(lastComplaint(socket, start)).toBe("other");
  appendFileSync(log, `${"x".repeat(300_000)}\nshmlink: late\n`);
  expect(lastComplaint(socket, 0)).toBe("late");
});

/** Lines of 1000 bytes, as a broker writes them to its standard error. */
function logLines(log: OwnedFd, keepSmall: () => void, count: number): void {
  for (let line = 0; line < count; line++) {
    keepSmall();
    write(log, new TextEncoder().encode(`${line} `.padEnd(999, "x").concat("\n")));
  }
}

function sizes(directory: string): number[] {
  return ["broker.log", "broker.log.1"].map(
    (name) => statSync(join(directory, name), { throwIfNoEntry: false })?.size ?? 0,
  );
}

test("a log that its broker fills is put aside once it is full, so two files of 1 MiB are all there ever is", () => {
  using dir = makeRuntimeDir();
  using log = openLog(join(dir.path, "broker.sock"));
  const keepSmall = ownLogKeeper(join(dir.path, "broker.sock"), log);
  if (keepSmall === undefined) throw new Error("The log was not known as the broker's own");
  for (let round = 0; round < 5; round++) {
    logLines(log, keepSmall, 1000);
    for (const size of sizes(dir.path)) expect(size).toBeLessThan((1 << 20) + 2000);
  }
  const [now = 0, before = 0] = sizes(dir.path);
  expect(before).toBeGreaterThan(1 << 20);
  expect(now).toBeGreaterThan(0);
  expect(existsSync(join(dir.path, "broker.log.2"))).toBe(false);
  expect(readFileSync(join(dir.path, "broker.log"), "utf8")).toContain("999 x");
});

test("a full log that cannot be put aside is emptied, and one that somebody has moved is begun anew", () => {
  using dir = makeRuntimeDir();
  const socket = join(dir.path, "broker.sock");
  mkdirSync(join(dir.path, "broker.log.1", "in-the-way"), { recursive: true });
  using log = openLog(socket);
  const keepSmall = ownLogKeeper(socket, log) ?? expect.unreachable();
  logLines(log, keepSmall, 1100);
  expect(sizes(dir.path)[0]).toBeLessThan(100_000);
  renameSync(join(dir.path, "broker.log"), join(dir.path, "moved"));
  logLines(log, keepSmall, 1100);
  expect(statSync(join(dir.path, "moved")).size).toBeGreaterThan(1 << 20);
  expect(sizes(dir.path)[0]).toBeGreaterThan(0);
});

test("a file that is not the broker's own log is left alone", () => {
  using dir = makeRuntimeDir();
  using other = openLog(join(dir.path, "other", "..", "broker.sock"));
  expect(ownLogKeeper("/nowhere/broker.sock", other)).toBeUndefined();
});

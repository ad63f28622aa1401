import { expect, test } from "bun:test";
import { appendFileSync, existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { lastComplaint, logEnd, openLog } from "../../../lib/client/broker-log.ts";
import { makeRuntimeDir } from "../../helpers/runtime-dir.ts";

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

import { expect, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { errno, SyscallError } from "../../../../ffi/mod.ts";
import { tcpBindFailure, unixBindFailure } from "../../../../lib/cli/offer/bind-failure.ts";
import { listenOn } from "../../../../lib/transport/socket-path.ts";
import { makeRuntimeDir } from "../../../helpers/runtime-dir.ts";

const EROFS = 30;

test("tcpBindFailure() says why nobody can listen there, and what to do", () => {
  const said = (number: number): string => tcpBindFailure("[::1]:80", new SyscallError("bind", number, "x")).message;
  expect([errno.EADDRINUSE, 99, errno.EACCES, errno.ENOMEM].map(said)).toEqual([
    'Cannot listen on "[::1]:80": the port is in use (EADDRINUSE); end the process that has it, or give another port, 0 for any',
    'Cannot listen on "[::1]:80": this machine has no such address (EADDRNOTAVAIL); give one of its own, or 0.0.0.0 or [::] for all',
    'Cannot listen on "[::1]:80": a low port is for root alone (EACCES); give one from net.ipv4.ip_unprivileged_port_start on (sysctl)',
    'Cannot listen on "[::1]:80": bind "x": cannot allocate memory (ENOMEM); give another one',
  ]);
});

test("unixBindFailure() says what is in the way, what is missing, and what to do", () => {
  using directory = makeRuntimeDir();
  const path = `${directory.path}/s`;
  const said = (number: number, where = path): string =>
    unixBindFailure(where, new SyscallError("bind", number, where)).message;
  expect([errno.ENOENT, errno.ENOTDIR, errno.EACCES, EROFS].map((number) => said(number))).toEqual([
    `Cannot listen on "${path}": its directory does not exist (ENOENT); make it, or give another path`,
    `Cannot listen on "${path}": what is above it is no directory (ENOTDIR); give another path`,
    `Cannot listen on "${path}": its directory is not ours to write to (EACCES); give another path`,
    `Cannot listen on "${path}": its file system is read-only (EROFS); give another path`,
  ]);
  const socket = /another process's socket is there \(EADDRINUSE\); end that process, or give another path/;
  const file = /something is there that is no socket \(EADDRINUSE\); remove it, or give another path/;
  expect(said(errno.EADDRINUSE, "@name")).toMatch(socket);
  listenOn(path).close();
  expect(said(errno.EADDRINUSE)).toMatch(socket);
  writeFileSync(`${path}.file`, "");
  mkdirSync(`${path}.directory`);
  for (const kind of ["file", "directory"]) expect(said(errno.EADDRINUSE, `${path}.${kind}`)).toMatch(file);
});

/** Why nobody can listen at an address of the command line, and what to do about it. */
import { lstatSync } from "node:fs";
import type { SyscallError } from "../../../ffi/mod.ts";
import { CommandFailure } from "../report-error.ts";

type Known = Readonly<Record<string, readonly [why: string, whatToDo: string]>>;

const TCP: Known = {
  EADDRINUSE: ["the port is in use", "end the process that has it, or give another port, 0 for any"],
  EADDRNOTAVAIL: ["this machine has no such address", "give one of its own, or 0.0.0.0 or [::] for all"],
  EACCES: ["a low port is for root alone", "give one from net.ipv4.ip_unprivileged_port_start on (sysctl)"],
};

const UNIX: Known = {
  ENOENT: ["its directory does not exist", "make it, or give another path"],
  ENOTDIR: ["what is above it is no directory", "give another path"],
  EACCES: ["its directory is not ours to write to", "give another path"],
  EROFS: ["its file system is read-only", "give another path"],
};
const SOCKET_IN_THE_WAY = ["another process's socket is there", "end that process, or give another path"] as const;
const FILE_IN_THE_WAY = ["something is there that is no socket", "remove it, or give another path"] as const;

/** @param error  of bind(2) */
export function tcpBindFailure(place: string, error: SyscallError): CommandFailure {
  return failure(place, error, TCP[error.code]);
}

/** @param error  of bind(2) */
export function unixBindFailure(path: string, error: SyscallError): CommandFailure {
  return failure(path, error, error.code === "EADDRINUSE" ? inTheWay(path) : UNIX[error.code]);
}

function inTheWay(path: string): Known[string] {
  const there = path.startsWith("@") ? undefined : lstatSync(path, { throwIfNoEntry: false });
  return there?.isSocket() === false ? FILE_IN_THE_WAY : SOCKET_IN_THE_WAY;
}

function failure(place: string, error: SyscallError, known: Known[string] | undefined): CommandFailure {
  const [why, whatToDo] = known ?? [error.message, "give another one"];
  const code = known === undefined ? "" : ` (${error.code})`;
  return new CommandFailure(`Cannot listen on "${place}": ${why}${code}; ${whatToDo}`, { cause: error });
}

/**
 * Where the broker's socket lives. A directory of a conventional name ("shmlink", "shmlink-1000") is ours alone: made
 * 0700, and refused when it is somebody else's, because in /tmp anybody could have made it first. Any other directory
 * was chosen by the user, and only has to keep strangers from replacing the socket.
 */
import { mkdirSync, realpathSync } from "node:fs";
import { constants, type FileStatus, lstat } from "../../ffi/mod.ts";
import { FailureError } from "../errors.ts";
import { basename, dirname, isAbsolute, join, resolve } from "../util/path.ts";
import { checkPathLength } from "./listen.ts";

export { isSocketPath, listenOn, removeSocket } from "./listen.ts";

const { S_IFDIR, S_IFLNK, S_IFMT } = constants;
const SYSTEM_DIRECTORY = "/run/shmlink"; // world-readable: the socket and the policy say who may come in

type Env = Readonly<Record<string, string | undefined>>;

/** $SHMLINK_SOCKET, else $XDG_RUNTIME_DIR/shmlink/broker.sock, else /run/shmlink or /tmp/shmlink-UID. Absolute.
 *  @throws FailureError "invalid" when it is too long for a socket address */
export function brokerSocketPath(env: Env, uid: number): string {
  const chosen = env["SHMLINK_SOCKET"];
  return checkPathLength(chosen ? resolve(chosen) : join(conventionalDirectory(env, uid), "broker.sock"));
}

function conventionalDirectory(env: Env, uid: number): string {
  const runtimeDirectory = env["XDG_RUNTIME_DIR"];
  // XDG Base Directory Specification: a relative one must be ignored, and it must be the user's: under "sudo -E" it is
  // another's, who could not use a directory that we left there.
  const isUsable = runtimeDirectory && isAbsolute(runtimeDirectory) && belongsTo(runtimeDirectory, uid);
  if (isUsable) return join(runtimeDirectory, "shmlink");
  return uid === 0 ? SYSTEM_DIRECTORY : `/tmp/shmlink-${uid}`;
}

/** What is not there, or cannot be looked at, is said when it is used. */
function belongsTo(directory: string, uid: number): boolean {
  try {
    return (lstat(directory)?.uid ?? uid) === uid;
  } catch {
    return true;
  }
}

/** Makes the directory of socket `path`, 0700, if it is not there, and checks it.
 *  @throws FailureError "no-broker" that says what is wrong with it */
export function prepareSocketDirectory(path: string, uid: number): void {
  const directory = dirname(path);
  try {
    mkdirSync(directory, { mode: directory === SYSTEM_DIRECTORY ? 0o755 : 0o700 });
  } catch (error) {
    if (systemCode(error) !== "EEXIST") throw refusal(directory, makeProblem(error), error);
  }
  checkSocketDirectory(path, uid);
}

/** The check alone, for who connects: a socket in a directory that somebody else made is somebody else's broker.
 *  A directory that is not there is in order. @throws FailureError "no-broker" */
export function checkSocketDirectory(path: string, uid: number): void {
  const directory = dirname(path);
  const status = lookAt(directory);
  if (status === undefined) return;
  const isOurs = /^shmlink(-\d+)?$/.test(basename(directory));
  const kind = status.mode & S_IFMT;
  if (kind !== S_IFDIR) {
    const isLink = kind === S_IFLNK;
    const what = isLink ? "a symbolic link" : "not a directory";
    // A user may well have chosen a path through a link; nobody but an attacker makes one of our own name.
    if (isOurs || !isLink) throw refusal(directory, `it is ${what}; remove it or set SHMLINK_SOCKET`);
    return checkSocketDirectory(join(realpathSync(directory), basename(path)), uid);
  }
  const problem = isOurs && directory !== SYSTEM_DIRECTORY ? ownProblem(status, uid) : foreignProblem(status, uid);
  if (problem !== undefined) throw refusal(directory, problem);
}

/** @returns undefined for one that is not there */
function lookAt(directory: string): FileStatus | undefined {
  try {
    return lstat(directory);
  } catch (error) {
    const problem = `it cannot be looked at (${systemCode(error) ?? String(error)}); set SHMLINK_SOCKET to another place`;
    throw refusal(directory, problem, error);
  }
}

type Status = { readonly uid: number; readonly mode: number };

function ownProblem({ uid: owner, mode }: Status, uid: number): string | undefined {
  if (owner !== uid) return `it belongs to user ${owner}, not to ${uid}; remove it or set SHMLINK_SOCKET`;
  if ((mode & 0o077) === 0) return undefined;
  return `its mode is ${octal(mode)}, 0700 is wanted; run chmod 700 on it`;
}

function foreignProblem({ uid: owner, mode }: Status, uid: number): string | undefined {
  if (owner !== uid && owner !== 0)
    return `it belongs to user ${owner}, not to ${uid}; set SHMLINK_SOCKET to another place`;
  const isSticky = (mode & 0o1000) !== 0;
  if ((mode & 0o022) === 0 || isSticky) return undefined;
  return `its mode is ${octal(mode)}, others could replace the socket; run chmod go-w on it or set SHMLINK_SOCKET`;
}

function octal(mode: number): string {
  return `0${(mode & 0o7777).toString(8)}`;
}

function refusal(directory: string, problem: string, cause?: unknown): FailureError {
  return new FailureError("no-broker", `Cannot use directory "${directory}": ${problem}`, { cause });
}

function systemCode(error: unknown): string | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;
}

function makeProblem(error: unknown): string {
  const code = systemCode(error);
  if (code === "ENOENT") return "the directory above it does not exist; make it or set SHMLINK_SOCKET";
  return `it cannot be made (${code ?? String(error)}); set SHMLINK_SOCKET to another place`;
}

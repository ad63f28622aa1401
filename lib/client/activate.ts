/**
 * Starting a broker where systemd does not: we make the listening socket, as systemd would, and pass it on by
 * LISTEN_FDS. The broker is a process of its own session that outlives us; sh(1) gives it LISTEN_PID, which nobody
 * can know before the process exists.
 */
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { type BorrowedFd, constants, type OwnedFd, open, spawn } from "../../ffi/mod.ts";
import { FailureError } from "../errors.ts";
import { listenOn, prepareSocketDirectory } from "../transport/socket-path.ts";
import { modulePath } from "../util/module-path.ts";
import { reapChild } from "../util/reap-child.ts";
import { openLog } from "./broker-log.ts";

/** The outer shell ends at once, so that the broker is nobody's child; the inner one becomes the broker. */
const BROKER_SCRIPT = `cd /; /bin/sh -c 'LISTEN_PID=$$; export LISTEN_PID; exec "$@"' sh "$@" &`;
const HOLDER_SCRIPT = `cd /; exec "$@" &`;

type Env = Readonly<Record<string, string | undefined>>;

/** How to run `shmlink VERB` on the runtime that runs us. */
function ownCommand(verb: string): string[] {
  const here = modulePath(import.meta.url);
  const bin = join(dirname(here), "..", "..", "bin");
  const candidates = here.endsWith(".ts")
    ? [join(bin, "shmlink.ts")]
    : [join(bin, "shmlink.js"), join(dirname(here), "shmlink.js")]; // built file by file, or bundled
  const entry = candidates.find((path) => existsSync(path));
  if (entry === undefined) return [process.execPath, verb]; // a single-file executable
  if ("Deno" in globalThis) return [process.execPath, "run", "-A", "--quiet", entry, verb];
  return [process.execPath, entry, verb];
}

/** The broker must not believe that it was started by somebody else's service manager or through somebody's channel, nor
 *  that the file it writes to is the journal. */
const PRIVATE = new Set([
  "LISTEN_PID",
  "JOURNAL_STREAM",
  "NOTIFY_SOCKET",
  "WATCHDOG_USEC",
  "WATCHDOG_PID",
  "SHMLINK_FD",
]);

function environment(env: Env): string[] {
  return Object.entries(env).flatMap(([name, value]) =>
    value === undefined || PRIVATE.has(name) ? [] : [`${name}=${value}`],
  );
}

/** Runs a script as a session of its own that outlives us. @param listener  its descriptor 3
 *  @returns its shell, which ends at once and is to be waited for */
function launch(script: string, words: readonly string[], env: Env, listener: BorrowedFd, log?: OwnedFd): number {
  using nothing = open("/dev/null", constants.O_RDWR);
  const { pid } = spawn({
    path: "/bin/sh",
    argv: ["sh", "-c", script, "sh", ...words],
    env: environment(env),
    // 3 comes last: until then a descriptor to be copied may have that number
    fds: [
      { from: nothing.number, to: 0 },
      { from: nothing.number, to: 1 },
      { from: (log ?? nothing).number, to: 2 },
      { from: listener.number, to: 3 },
    ],
    newSession: true,
  });
  return pid;
}

function launchBroker(listener: OwnedFd, path: string, env: Env): void {
  using log = openLog(path);
  const own = { ...env, SHMLINK_SOCKET: path, LISTEN_FDS: "1", LISTEN_FDNAMES: "shmlink" };
  reapChild(launch(BROKER_SCRIPT, ownCommand("broker"), own, listener, log), true);
}

/** For a broker: starts the process that holds descriptors for the one after it.
 *  @param path  of the broker's socket @param restarts  whether it starts that one, too
 *  @returns a child to be waited for when it has ended: execve(2) closes our descriptors there, strangers' among them, and
 *    that can take as long as their senders like */
export function launchHolder(listener: BorrowedFd, path: string, env: Env, restarts: boolean): number {
  const words = [...ownCommand("hold"), ...(restarts ? ["--restart"] : [])];
  return launch(HOLDER_SCRIPT, words, { ...env, SHMLINK_SOCKET: path }, listener); // whoever reads our stderr waits for its end
}

/**
 * Makes the socket at `path` and a broker behind it. Does nothing when somebody else was faster.
 * @throws FailureError "no-broker" with what is wrong with the directory
 */
export function startBroker(path: string, env: Env, uid: number): void {
  prepareSocketDirectory(path, uid);
  try {
    using listener = listenOn(path);
    launchBroker(listener, path, env);
  } catch (error) {
    if (error instanceof FailureError && error.code === "name-in-use") return;
    throw error;
  }
}

/**
 * Starting a broker where systemd does not: we make the listening socket, as systemd would, and pass it on by
 * LISTEN_FDS. The broker is a process of its own session that outlives us; sh(1) gives it LISTEN_PID, which nobody
 * can know before the process exists.
 */
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { type OwnedFd, spawn, waitForChild } from "../../ffi/mod.ts";
import { FailureError } from "../errors.ts";
import { listenOn, prepareSocketDirectory } from "../transport/socket-path.ts";

/** The listening socket is fd 3 of the outer shell and so of all below; the log takes what the broker says. */
const SCRIPT = `cd / && { log=$1; shift; [ -w "\${log%/*}" ] && exec 2>>"$log" || exec 2>/dev/null
/bin/sh -c 'LISTEN_PID=$$ exec "$@"' sh "$@" </dev/null >/dev/null & }`;

type Env = Readonly<Record<string, string | undefined>>;

/** How to run `shmlink broker` on the runtime that runs us. */
function brokerCommand(): string[] {
  const here = fileURLToPath(import.meta.url);
  const entry = join(dirname(here), "..", "..", "bin", here.endsWith(".ts") ? "shmlink.ts" : "shmlink.js");
  if (!existsSync(entry)) return [process.execPath, "broker"]; // a single-file executable
  if ("Deno" in globalThis) return [process.execPath, "run", "-A", "--quiet", entry, "broker"];
  return [process.execPath, entry, "broker"];
}

/** The broker must not believe that it was started by somebody else's service manager or through somebody's channel. */
const PRIVATE = new Set(["LISTEN_PID", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "SHMLINK_FD"]);

function brokerEnvironment(env: Env, path: string): string[] {
  const own = { ...env, SHMLINK_SOCKET: path, LISTEN_FDS: "1", LISTEN_FDNAMES: "shmlink" };
  return Object.entries(own).flatMap(([name, value]) => (value === undefined || PRIVATE.has(name) ? [] : [`${name}=${value}`]));
}

function launch(listener: OwnedFd, path: string, env: Env): void {
  const log = join(dirname(path), "broker.log");
  const { pid } = spawn({
    path: "/bin/sh",
    argv: ["sh", "-c", SCRIPT, "sh", log, ...brokerCommand()],
    env: brokerEnvironment(env, path),
    fds: [{ from: listener.number, to: 3 }],
    newSession: true,
  });
  waitForChild(pid, true); // the shell that started it; the broker itself is nobody's child
}

/**
 * Makes the socket at `path` and a broker behind it. Does nothing when somebody else was faster.
 * @throws FailureError "no-broker" with what is wrong with the directory
 */
export function startBroker(path: string, env: Env, uid: number): void {
  prepareSocketDirectory(path, uid);
  try {
    using listener = listenOn(path);
    launch(listener, path, env);
  } catch (error) {
    if (error instanceof FailureError && error.code === "name-in-use") return;
    throw error;
  }
}

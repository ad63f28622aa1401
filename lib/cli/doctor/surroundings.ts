/** The user's session, the runtime, the broker. */
import { constants as access, accessSync, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { errnoName, getFileLimit, loaded } from "../../../ffi/mod.ts";
import { BrokerLink } from "../../client/broker-link.ts";
import { FailureError } from "../../errors.ts";
import { brokerSocketPath, checkSocketDirectory } from "../../transport/socket-path.ts";
import { type Answer, no, type Probe, yes } from "./probe.ts";

const IO_URING = "/proc/sys/kernel/io_uring_disabled";
const COMFORTABLE_FILES = 4096n;
const UNLIMITED = 1n << 62n;

export const SURROUNDINGS_PROBES: readonly Probe[] = [
  { name: "runtime", essential: true, neededFor: "everything", ask: askRuntime },
  { name: "open files", neededFor: "many channels at once", ask: askFileLimit },
  { name: "io_uring", neededFor: "wrapping programs that use io_uring: wrap does not see such calls", ask: askIoUring },
  { name: "XDG_RUNTIME_DIR", neededFor: "a socket directory that is cleaned up at logout", ask: askRuntimeDirectory },
  { name: "systemd user manager", neededFor: "a broker started and kept by systemd", ask: askUserManager },
  { name: "socket directory", essential: true, neededFor: "reaching a broker", ask: askSocketDirectory },
  { name: "broker", neededFor: "ls, listen, dial and wrap, which start one", ask: askBroker },
];

function askRuntime(): Answer {
  const { bun, deno, node } = process.versions as Readonly<Record<string, string | undefined>>;
  const runtime = bun !== undefined ? `Bun ${bun}` : deno !== undefined ? `Deno ${deno}` : `Node ${node}`;
  const refused = loaded.refused.map(({ name, reason }) => `; not ${name}: ${reason}`).join("");
  return yes(`${runtime} on ${process.arch}, calls the kernel through ${loaded.backend.name}${refused}`);
}

function askFileLimit(): Answer {
  const { soft, hard } = getFileLimit();
  const detail = `${limitText(soft)} now, ${limitText(hard)} at most`;
  return hard >= COMFORTABLE_FILES ? yes(detail) : no(`${detail}; raise it with ulimit -n or LimitNOFILE=`);
}

function limitText(limit: bigint): string {
  return limit > UNLIMITED ? "unlimited" : String(limit);
}

function askIoUring(): Answer {
  if (!existsSync(IO_URING)) return yes("not restricted; programs that use it for sockets are not handed off");
  const value = readFileSync(IO_URING, "latin1").trim();
  return yes(value === "2" ? "disabled for all: every program can be handed off" : `io_uring_disabled is ${value}`);
}

function askRuntimeDirectory(): Answer {
  const directory = process.env["XDG_RUNTIME_DIR"];
  if (directory === undefined || directory === "") return no("not set; the socket is elsewhere, see below");
  try {
    accessSync(directory, access.W_OK | access.X_OK);
    return yes(directory);
  } catch (error) {
    return no(`"${directory}" cannot be used: ${(error as NodeJS.ErrnoException).code ?? errnoName(0)}`);
  }
}

function askUserManager(): Answer {
  const directory = process.env["XDG_RUNTIME_DIR"];
  if (directory === undefined || !existsSync(join(directory, "systemd", "private"))) {
    return no("none is running; brokers are started by the command line");
  }
  return yes('running; "shmlink install" sets it up');
}

function socketPath(): string {
  return brokerSocketPath(process.env, process.geteuid?.() ?? 0);
}

function askSocketDirectory(): Answer {
  checkSocketDirectory(socketPath(), process.geteuid?.() ?? 0);
  return yes(`${socketPath()} can be used`);
}

function askBroker(): Answer {
  try {
    using link = BrokerLink.connect({ name: "shmlink doctor", start: false });
    return yes(`version ${link.welcome?.version ?? "?"}, uid ${link.welcome?.uid ?? "?"}`);
  } catch (error) {
    if (error instanceof FailureError && error.code === "no-broker") return no("none is running");
    throw error;
  }
}

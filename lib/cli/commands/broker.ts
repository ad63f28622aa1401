/** `shmlink broker`: the broker in the foreground, on inherited sockets or on its own. */
import {
  type BorrowedFd,
  getFileLimit,
  getsockname,
  type OwnedFd,
  readUnixAddress,
  setFileLimit,
} from "../../../ffi/mod.ts";
import { runBroker } from "../../broker/broker.ts";
import { LimitedLog } from "../../broker/log-limit.ts";
import { HeldStore } from "../../broker/survival/held-store.ts";
import { HELD_SUFFIX } from "../../broker/survival/holding.ts";
import { isKept } from "../../broker/survival/keeper.ts";
import { launchHolder } from "../../client/activate.ts";
import { ownLogKeeper } from "../../client/broker-log.ts";
import { loadConfig } from "../../config/load.ts";
import type { ShmlinkConfig } from "../../config/schema.ts";
import type { Logger } from "../../log.ts";
import { takeInherited } from "../../transport/activation.ts";
import {
  brokerSocketPath,
  isSocketPath,
  listenOn,
  prepareSocketDirectory,
  removeSocket,
} from "../../transport/socket-path.ts";
import { type Command, makeCommand } from "../command.ts";
import { OK } from "../exit-codes.ts";
import { createLogger } from "../logger.ts";
import { parseWhole } from "../numbers.ts";
import { UsageError } from "../usage-error.ts";

const MAX_IDLE_MS = 7 * 86_400_000;

export const command: Command = makeCommand({
  name: "broker",
  summary: "run the broker in the foreground",
  description: `Runs the broker until SIGTERM or SIGINT, or until nobody was connected for the idle time of the
configuration. Normally nobody has to: every other command starts one, and systemd does after "shmlink
install". Sockets named "shmlink" that a service manager passes on (LISTEN_FDS) are taken; otherwise
the socket is $SHMLINK_SOCKET, else $XDG_RUNTIME_DIR/shmlink/broker.sock, else /run/shmlink/broker.sock
for root or /tmp/shmlink-UID/broker.sock. READY, STOPPING and WATCHDOG are told to $NOTIFY_SOCKET.
SIGHUP reads the configuration again; nobody is disconnected, and a broken file changes nothing.`,
  args: {
    socket: { type: "string", valueHint: "PATH", description: "make this socket; not with inherited ones" },
    "idle-ms": { type: "string", valueHint: "MS", description: "end after so long without a connection; 0 for never" },
    config: { type: "string", valueHint: "FILE", description: "read this configuration instead of searching for one" },
  },
  examples: [
    ["shmlink broker -v --idle-ms=0", "stay, and say what happens"],
    [
      'systemd-socket-activate -l "$DIR/broker.sock" --fdname=shmlink shmlink broker',
      'started by the first connection; clients set SHMLINK_SOCKET="$DIR/broker.sock"',
    ],
  ],
  run: ({ socket, "idle-ms": idleMs, config: configPath }, { verbose }) => {
    const env = process.env;
    const where = { env, ...(configPath === undefined ? {} : { path: configPath }) };
    const { config, sources } = loadConfig(where);
    const effective = withIdleMs(config, idleMs);
    const isTerminal = process.stderr.isTTY === true;
    const level = verbose ? "debug" : effective.broker.logLevel;
    const keepSmall = ownLogKeeper(socketPathOf(socket));
    const beforeLine = keepSmall === undefined ? {} : { beforeLine: keepSmall };
    const unlimited = createLogger({ level, env, isTerminal, ...beforeLine });
    // Whoever asks for all of it, looks at it, or has the journal, which keeps to limits itself, gets all of it.
    const isBounded = verbose || isTerminal || env["JOURNAL_STREAM"] !== undefined;
    const limited = isBounded ? undefined : new LimitedLog(unlimited, level);
    const logger = limited ?? unlimited;
    const notified = env["NOTIFY_SOCKET"] !== undefined;
    raiseFileLimit();
    const { listeners, paths, inherited, stored } = takeSockets(socket);
    // Who chose how this one runs has to say how the next one does.
    const isOnDemand = inherited && [socket, idleMs, configPath].every((option) => option === undefined);
    using held = notified ? undefined : heldStore(paths, logger, isOnDemand);
    logger.debug(sources.length === 0 ? "Configuration: built in" : `Configuration: ${sources.join(", ")}`);
    logger.info(`Serving ${paths.join(", ")}`);
    const reload = (): ShmlinkConfig => withIdleMs(loadConfig(where).config, idleMs);
    const left = held?.takeOver() ?? stored;
    const survival = { stored: left, ...(held === undefined ? {} : { held }) };
    const signal = runBroker({ listeners, ...survival, config: effective, reload, logger, env });
    limited?.tellLeftOut();
    // A service manager keeps its sockets, and asking them whether they live would start us again.
    if (!inherited || !notified) for (const path of paths) removeSocket(path);
    logger.info(signal === undefined ? "Stopped: nobody was connected" : `Stopped by signal ${signal}`);
    return OK;
  },
});

/** Where what outlives us is kept when no service manager does. */
function heldStore(paths: readonly string[], logger: Logger, isOnDemand: boolean): HeldStore | undefined {
  const [broker = ""] = paths;
  const path = `${broker}${HELD_SUFFIX}`;
  if (paths.length !== 1 || !isSocketPath(path)) return undefined;
  const launch = (listener: BorrowedFd): number => launchHolder(listener, broker, process.env, isOnDemand);
  return new HeldStore({ path, launch, logger });
}

/** A channel that is being set up takes six descriptors, one that is offered one; nothing here uses select(2). */
function raiseFileLimit(): void {
  const { hard } = getFileLimit();
  setFileLimit({ soft: hard, hard });
}

function withIdleMs(config: ShmlinkConfig, text: string | undefined): ShmlinkConfig {
  if (text === undefined) return config;
  return { ...config, broker: { ...config.broker, idleMs: parseWhole(text, "--idle-ms", MAX_IDLE_MS) } };
}

type Sockets = {
  readonly listeners: readonly OwnedFd[];
  readonly paths: readonly string[];
  readonly inherited: boolean;
  readonly stored: ReadonlyMap<string, OwnedFd>;
};

function takeSockets(path: string | undefined): Sockets {
  const { listeners = [], stored = new Map() } = takeInherited("shmlink", isKept) ?? {};
  if (listeners.length > 0) {
    if (path === undefined) return { listeners, paths: listeners.map(pathOf), inherited: true, stored };
    for (const fd of [...listeners, ...stored.values()]) fd.close();
    throw new UsageError(`Cannot use --socket "${path}": sockets were passed on by LISTEN_FDS; leave one of them out`);
  }
  const own = socketPathOf(path);
  prepareSocketDirectory(own, process.geteuid?.() ?? 0);
  return { listeners: [listenOn(own)], paths: [own], inherited: false, stored };
}

/** Where the socket is that we make, or were given by who started us. */
function socketPathOf(path: string | undefined): string {
  return brokerSocketPath(path === undefined ? process.env : { SHMLINK_SOCKET: path }, process.geteuid?.() ?? 0);
}

function pathOf(listener: OwnedFd): string {
  return readUnixAddress(getsockname(listener)) ?? "";
}

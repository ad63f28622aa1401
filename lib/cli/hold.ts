/** `shmlink hold`: holds descriptors for the broker that starts it, and for the one after that. Not for people. */
import { existsSync } from "node:fs";
import { dirname } from "node:path";
import {
  borrowFd,
  constants,
  fcntl,
  getFileLimit,
  getIntOption,
  OwnedFd,
  SyscallError,
  setFileLimit,
} from "../../ffi/mod.ts";
import { Holder, type HolderOptions } from "../broker/survival/holder.ts";
import { HELD_SUFFIX } from "../broker/survival/holding.ts";
import { startBroker } from "../client/activate.ts";
import { BackOff } from "../client/back-off.ts";
import { FailureError } from "../errors.ts";
import { brokerSocketPath, removeSocket } from "../transport/socket-path.ts";
import { type Command, makeCommand } from "./command.ts";
import { OK } from "./exit-codes.ts";
import { UsageError } from "./usage-error.ts";

const LISTENER = 3;

export const command: Command = makeCommand({
  name: "hold",
  summary: "hold descriptors for a broker (started by it)",
  description: `A broker that no service manager started starts this one, and gives it what the broker after it needs to
list the channels, contexts and offers that there are. It ends when there is nothing to hold.`,
  args: {
    restart: { type: "boolean", description: "start the next broker when this one is killed" },
  },
  examples: [],
  run: ({ restart }) => {
    const { hard } = getFileLimit();
    setFileLimit({ soft: hard, hard });
    const path = brokerSocketPath(process.env, process.geteuid?.() ?? 0);
    hold(inheritedListener(), restart === true ? restarting(path) : undefined);
    removeSocket(`${path}${HELD_SUFFIX}`, constants.SOCK_SEQPACKET);
    return OK;
  },
});

function hold(listener: OwnedFd, restart: HolderOptions["restart"]): void {
  using holder = new Holder({ listener, ...(restart === undefined ? {} : { restart }) });
  holder.run();
}

/** The broker's word for it is not enough: by hand, 3 is something of the runtime's. */
function inheritedListener(): OwnedFd {
  const { SOL_SOCKET, SO_TYPE, SO_ACCEPTCONN, SOCK_SEQPACKET, F_SETFD, FD_CLOEXEC } = constants;
  const fd = borrowFd(LISTENER);
  try {
    const isListener = getIntOption(fd, SOL_SOCKET, SO_ACCEPTCONN) === 1;
    if (isListener && getIntOption(fd, SOL_SOCKET, SO_TYPE) === SOCK_SEQPACKET) {
      fcntl(fd, F_SETFD, FD_CLOEXEC);
      return new OwnedFd(LISTENER);
    }
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error; // EBADF, ENOTSOCK
  }
  throw new UsageError(`Cannot hold anything: descriptor ${LISTENER} is no listening socket; a broker starts this`);
}

/** As clients do; that one is there already, or cannot be made now, is no reason to end. */
function restarting(path: string): NonNullable<HolderOptions["restart"]> {
  const backOff = new BackOff();
  return {
    delayMs: () => {
      backOff.ended(performance.now());
      return backOff.next();
    },
    start: () => {
      backOff.connected(performance.now());
      try {
        if (existsSync(dirname(path))) startBroker(path, process.env, process.geteuid?.() ?? 0);
      } catch (error) {
        if (!(error instanceof FailureError || error instanceof SyscallError)) throw error;
      }
    },
  };
}

/**
 * Listening sockets that a service manager passed on: sd_listen_fds(3). Whatever is inherited is checked before it is
 * trusted, and a descriptor that nobody asked for is an error: it would stay open unseen for as long as we live.
 */
import { borrowFd, constants, fcntl, getIntOption, OwnedFd, SyscallError, setNonBlocking } from "../../ffi/mod.ts";
import { FailureError } from "../errors.ts";
import { closeAll } from "./transport.ts";

const LISTEN_FDS_START = 3; // SD_LISTEN_FDS_START
/** LISTEN_FDS is not ours to believe; this many the file descriptor store of a manager may hold. */
const MAX_FDS = 65_536;
const VARIABLES = ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"] as const;

type MutableEnv = Record<string, string | undefined>;

/** What was passed on: sockets to listen on, and what an earlier run of the service put into the manager's store. */
export type Inherited = { readonly listeners: readonly OwnedFd[]; readonly stored: ReadonlyMap<string, OwnedFd> };

/**
 * Takes the sockets named `name` (FileDescriptorName=); where LISTEN_FDNAMES is not set at all, every one is meant.
 * Removes the variables from `env`, so that no child believes they are for it.
 * @param isStored  whether a name is one that Notifier.store() was given
 * @returns undefined when nothing was passed to this process
 * @throws FailureError "invalid" naming the descriptor that is not a listening Unix stream socket or has another name;
 *         all of them are closed then
 */
export function takeInherited(
  name: string,
  isStored: (label: string) => boolean,
  env: MutableEnv = process.env,
  pid: number = process.pid,
): Inherited | undefined {
  const [count, owner, names] = VARIABLES.map((variable) => env[variable]);
  for (const variable of VARIABLES) delete env[variable];
  if (count === undefined || Number(owner) !== pid) return undefined;
  const fds = inheritedFds(count);
  try {
    const labels = names === undefined ? fds.map(() => name) : names.split(":");
    const stored = new Map<string, OwnedFd>();
    const listeners = fds.filter((fd, index) => {
      const label = labels[index] ?? "unknown";
      if (isStored(label)) {
        stored.get(label)?.close();
        stored.set(label, fd);
        return false;
      }
      checkInherited(fd, label, name);
      setNonBlocking(fd, true); // systemd has it wait, unless NonBlocking= is set: accept(2) would, when nobody is there any more
      return true;
    });
    return { listeners, stored };
  } catch (error) {
    closeAll(fds);
    throw error;
  }
}

/** takeInherited() for a service that puts nothing into the store. */
export function takeListeners(
  name: string,
  env: MutableEnv = process.env,
  pid: number = process.pid,
): readonly OwnedFd[] | undefined {
  return takeInherited(name, () => false, env, pid)?.listeners;
}

function inheritedFds(count: string): OwnedFd[] {
  const total = Number(count);
  if (!/^\d+$/.test(count) || total > MAX_FDS) {
    throw new FailureError(
      "invalid",
      `Cannot take inherited sockets: LISTEN_FDS is "${count}", a small number is wanted`,
    );
  }
  const fds: OwnedFd[] = [];
  for (let number = LISTEN_FDS_START; number < LISTEN_FDS_START + total; number += 1) {
    try {
      fcntl(borrowFd(number), constants.F_SETFD, constants.FD_CLOEXEC);
    } catch (error) {
      closeAll(fds);
      if (!(error instanceof SyscallError)) throw error;
      throw new FailureError(
        "invalid",
        `Cannot take inherited descriptor ${number}: LISTEN_FDS is "${count}", but it is not open`,
      );
    }
    fds.push(new OwnedFd(number));
  }
  return fds;
}

function checkInherited(fd: OwnedFd, label: string, wanted: string): void {
  const subject = `Cannot take inherited descriptor ${fd.number} "${label}"`;
  if (label !== wanted) {
    throw new FailureError(
      "invalid",
      `${subject}: nobody asked for it, set FileDescriptorName=${wanted} (--fdname=${wanted})`,
    );
  }
  if (!isListeningUnixStream(fd)) {
    throw new FailureError(
      "invalid",
      `${subject}: a listening Unix stream socket is wanted (ListenStream= with a path)`,
    );
  }
}

function isListeningUnixStream(fd: OwnedFd): boolean {
  const { SOL_SOCKET, SO_DOMAIN, SO_TYPE, SO_ACCEPTCONN, AF_UNIX, SOCK_STREAM } = constants;
  const option = (which: number): number => getIntOption(fd, SOL_SOCKET, which);
  try {
    return option(SO_DOMAIN) === AF_UNIX && option(SO_TYPE) === SOCK_STREAM && option(SO_ACCEPTCONN) === 1;
  } catch (error) {
    if (error instanceof SyscallError) return false; // ENOTSOCK
    throw error;
  }
}

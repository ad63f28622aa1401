/** sd_notify(3): what the broker tells the service manager. Without NOTIFY_SOCKET everything here does nothing. */
import { type BorrowedFd, connect, constants, SyscallError, sendmsg, socket, unixAddress } from "../../ffi/mod.ts";

type Env = Readonly<Record<string, string | undefined>>;

export class Notifier {
  readonly #address: Uint8Array | undefined;
  /** How often watchdog() has to be called: half of what the manager allows. Undefined when it does not watch us. */
  readonly watchdogIntervalMs: number | undefined;

  /** @param env  NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID */
  constructor(env: Env, pid: number = process.pid) {
    this.#address = notifyAddress(env["NOTIFY_SOCKET"]);
    this.watchdogIntervalMs = this.#address === undefined ? undefined : watchdogInterval(env, pid);
  }

  get isEnabled(): boolean {
    return this.#address !== undefined;
  }

  ready(status: string): boolean {
    return this.send({ READY: "1", STATUS: status });
  }

  status(status: string): boolean {
    return this.send({ STATUS: status });
  }

  /** To be followed by ready(). */
  reloading(): boolean {
    return this.send({ RELOADING: "1" });
  }

  stopping(): boolean {
    return this.send({ STOPPING: "1" });
  }

  watchdog(): boolean {
    return this.send({ WATCHDOG: "1" });
  }

  /** Puts a descriptor into the manager's store, from which the next start of this service gets it under this name. One that
   *  is there already, under whatever name, is not put there twice. It stays the caller's.
   *  @param name  printable ASCII without a colon, at most 255 @returns false when the manager cannot take it now */
  store(name: string, fd: BorrowedFd): boolean {
    return this.send({ FDSTORE: "1", FDNAME: name, FDPOLL: "0" }, [fd]);
  }

  /** Takes what has this name out of the store. */
  unstore(name: string): boolean {
    return this.send({ FDSTOREREMOVE: "1", FDNAME: name });
  }

  /** @returns false when nobody listens, or is too busy: the manager's loss is no reason for us to fail */
  send(fields: Readonly<Record<string, string>>, fds: readonly BorrowedFd[] = []): boolean {
    if (this.#address === undefined) return false;
    const lines = Object.entries(fields).map(([key, value]) => `${key}=${value.replaceAll("\n", " ")}`);
    const bytes = new TextEncoder().encode(lines.join("\n"));
    try {
      using fd = socket(constants.AF_UNIX, constants.SOCK_DGRAM); // may fail too: whoever fills us up must not end us
      connect(fd, this.#address, "NOTIFY_SOCKET");
      return sendmsg(fd, bytes, fds) !== null;
    } catch (error) {
      if (error instanceof SyscallError) return false;
      throw error;
    }
  }
}

/** A path or an abstract "@name"; what else systemd may one day put there (vsock:) is left alone. */
function notifyAddress(value: string | undefined): Uint8Array | undefined {
  if (value === undefined || !/^[/@]./.test(value)) return undefined;
  return unixAddress(value);
}

function watchdogInterval(env: Env, pid: number): number | undefined {
  const usec = Number(env["WATCHDOG_USEC"]);
  const isForUs = env["WATCHDOG_PID"] === undefined || Number(env["WATCHDOG_PID"]) === pid;
  if (!isForUs || !Number.isSafeInteger(usec) || usec <= 0) return undefined;
  return Math.max(1, Math.floor(usec / 2000));
}

/** Finding the broker: its socket, starting it where nobody listens, and what to say when neither works. */
import { borrowFd, constants, errno, fcntl, getIntOption, OwnedFd, SyscallError } from "../../ffi/mod.ts";
import { FailureError, ProtocolError } from "../errors.ts";
import { WL_DISPLAY_ERROR } from "../protocol/shmlink-v1.gen.ts";
import { brokerSocketPath, checkSocketDirectory, removeSocket } from "../transport/socket-path.ts";
import { DISPLAY_ID } from "../wire/object-map.ts";
import { startBroker } from "./activate.ts";
import { answerMs } from "./arguments.ts";
import { connectTo } from "./broker-door.ts";
import { lastComplaint, logEnd } from "./broker-log.ts";
import type { BrokerEvent } from "./renewal.ts";

const START_ATTEMPTS = 3;

export type ConnectOptions = {
  /** What we call ourselves in listings: 1 to 64 characters. */
  readonly name: string;
  /** Where to look for SHMLINK_SOCKET and the like; process.env by default. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Start a broker when none answers; true by default. */
  readonly start?: boolean;
  /** How long to wait, in milliseconds, at a broker where so many connect that it has no room for one more; 10 000 by
   *  default, -1 for no limit. Nothing else happens in this thread meanwhile; 0 leaves it to the caller to try again. */
  readonly patienceMs?: number;
  /** Ask for a doorbell, so that the *Async methods work; false by default. */
  readonly wake?: boolean;
  /** When the broker ends, find or start the next one and offer our services there again; true by default. It happens while
   *  somebody waits in accept, and before the next request; never to a connection that was handed down (SHMLINK_FD). */
  readonly reconnect?: boolean;
  /** Called when the broker has ended, and with what comes of it. */
  readonly onBroker?: (event: BrokerEvent) => void;
};

type Env = Readonly<Record<string, string | undefined>>;

/** What a fresh connection is handed to. */
type Greeter = Disposable & { hello(options: ConnectOptions): boolean };

/**
 * Connects, starts a broker if there is none, and says hello on what `make` makes of the connection.
 * @throws FailureError "no-broker": none answers and none could be started
 */
export function connectWith<T extends Greeter>(options: ConnectOptions, make: (fd: OwnedFd) => T): T {
  const env = options.env ?? process.env;
  const inherited = takeInherited(env);
  if (inherited !== undefined) return greetInherited(make(inherited), options);
  const patienceMs = answerMs(options.patienceMs, "patienceMs");
  const uid = process.geteuid?.() ?? 0;
  const path = brokerSocketPath(env, uid);
  checkSocketDirectory(path, uid);
  let logStart: number | undefined;
  for (let attempt = 1; ; attempt++) {
    const fd = connectTo(path, patienceMs);
    if (fd !== undefined) {
      const greeted = greet(make(fd), options);
      if (greeted !== undefined) return greeted;
      if (logStart !== undefined) explainEnd(path, logStart);
    }
    if (attempt > START_ATTEMPTS || options.start === false) throw noBroker(path, options.start !== false);
    if (fd !== undefined) continue;
    logStart ??= logEnd(path);
    startBroker(path, env, uid);
  }
}

/** A connection that nobody has said hello on. `explain` says why it ended, where a broker that we started left word. */
export type Reached = { readonly fd: OwnedFd; readonly explain: () => FailureError | undefined };

/**
 * One try to connect, starting a broker if there is none, without waiting for one that starts: its socket is there
 * before it, and what is sent waits for it.
 * @throws FailureError "no-broker", SyscallError: another try may do better, unless isHandedDown()
 */
export function reach(options: ConnectOptions): Reached {
  const env = options.env ?? process.env;
  const uid = process.geteuid?.() ?? 0;
  const path = brokerSocketPath(env, uid);
  checkSocketDirectory(path, uid);
  const known = connectTo(path, 0);
  if (known !== undefined) return { fd: known, explain: () => undefined };
  if (options.start === false) throw noBroker(path, false);
  const logStart = logEnd(path);
  startBroker(path, env, uid);
  const fd = connectTo(path, 0);
  if (fd === undefined) throw noBroker(path, true);
  const explain = (): FailureError | undefined => {
    const complaint = lastComplaint(path, logStart);
    return complaint === undefined ? undefined : cannotStart(path, complaint);
  };
  return { fd, explain };
}

/** Whether the connection is one that somebody handed down (SHMLINK_FD): there is no other with the same authority. */
export function isHandedDown(env: Env = process.env): boolean {
  const text = env["SHMLINK_FD"];
  return text !== undefined && text !== "";
}

/** The broker that we started is gone. @throws FailureError "no-broker" when it said why, and it would say that again */
function explainEnd(path: string, logStart: number): void {
  const complaint = lastComplaint(path, logStart);
  if (complaint === undefined) return;
  removeSocket(path);
  throw cannotStart(path, complaint);
}

function cannotStart(path: string, complaint: string): FailureError {
  return new FailureError("no-broker", `Cannot start a broker at "${path}": ${complaint}`);
}

/** In SHMLINK_FD's place for programs that are started by who has used it: the number may be anybody's socket there. */
const USED = "used";

/**
 * The connection that SHMLINK_FD names: authority that somebody handed down. It is one connection, so the first who
 * asks has it, and whoever asks next finds in the environment that it is used, or the descriptor taken.
 * @throws FailureError "no-broker" when it names no connection: falling back on the socket could mean more authority
 */
function takeInherited(env: Env): OwnedFd | undefined {
  const text = env["SHMLINK_FD"];
  if (text === undefined || text === "") return undefined;
  const wrong = (why: string): FailureError => new FailureError("no-broker", `Cannot use SHMLINK_FD "${text}": ${why}`);
  if (text === USED || taken.has(Number(text))) throw wrong("the connection that was handed down is used already");
  if (!/^\d{1,7}$/.test(text) || Number(text) < 3) throw wrong("the number of an open descriptor from 3 on is wanted");
  const fd = borrowFd(Number(text));
  try {
    const option = (name: number): number => getIntOption(fd, constants.SOL_SOCKET, name);
    const isUnix =
      option(constants.SO_DOMAIN) === constants.AF_UNIX && option(constants.SO_TYPE) === constants.SOCK_STREAM;
    if (!isUnix || option(constants.SO_ACCEPTCONN) === 1) throw wrong("it is no connected Unix socket");
    fcntl(fd, constants.F_SETFD, constants.FD_CLOEXEC);
  } catch (error) {
    if (error instanceof SyscallError) throw wrong("it is not open, or no socket; was it closed on the way?");
    throw error;
  }
  taken.add(Number(text));
  if (process.env["SHMLINK_FD"] === text) process.env["SHMLINK_FD"] = USED;
  return new OwnedFd(Number(text));
}

/** Numbers of connections that were handed down and used: by now they may be anything. */
const taken: Set<number> = new Set();

function greetInherited<T extends Greeter>(link: T, options: ConnectOptions): T {
  const wrong = (why: string, error?: ProtocolError): FailureError =>
    new FailureError("no-broker", `Cannot use SHMLINK_FD: ${why}`, { cause: error });
  try {
    const greeted = greet(link, options);
    if (greeted !== undefined) return greeted;
  } catch (error) {
    if (!(error instanceof ProtocolError) || isRefusal(error)) throw error;
    throw wrong("another program has used it before, which may be done once, or no broker is at its other end", error);
  }
  throw wrong("the broker at its other end has gone");
}

/** Whether the broker itself said why it does not let us in: by a rule, for a limit, or as the system has nothing to give. */
function isRefusal({ objectId, wireCode }: ProtocolError): boolean {
  const { implementation, no_memory } = WL_DISPLAY_ERROR;
  return objectId === DISPLAY_ID && (wireCode === implementation || wireCode === no_memory);
}

/** @returns undefined when the broker ended before it answered: an idle exit just then */
function greet<T extends Greeter>(link: T, options: ConnectOptions): T | undefined {
  try {
    if (link.hello(options)) return link;
  } catch (error) {
    link[Symbol.dispose]();
    if (error instanceof SyscallError && (error.errno === errno.ECONNRESET || error.errno === errno.EPIPE))
      return undefined;
    throw error;
  }
  link[Symbol.dispose]();
  return undefined;
}

function noBroker(path: string, tried: boolean): FailureError {
  const what = tried
    ? 'none could be started; see broker.log beside it, or run "shmlink broker"'
    : 'start one with "shmlink broker"';
  return new FailureError("no-broker", `Cannot reach a broker at "${path}": ${what}`);
}

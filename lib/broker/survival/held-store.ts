/**
 * The store of a broker that no service manager started: a process of its own, which holds what it is given and knows
 * nothing else (holder.ts). It is started for the first thing that is to be kept, and belongs to one broker after the
 * other. Invariant: only a process of our own user is believed, and the kernel says whose it is.
 */
import {
  type BorrowedFd,
  connect,
  constants,
  errno,
  type OwnedFd,
  peerCredentials,
  poll,
  type Received,
  recvmsg,
  SyscallError,
  sendmsg,
  socket,
  unixAddress,
} from "../../../ffi/mod.ts";
import { FailureError } from "../../errors.ts";
import type { Logger } from "../../log.ts";
import { listenOn } from "../../transport/listen.ts";
import { closeAll } from "../../transport/transport.ts";
import { ALL, HELD, STOPPING, STORE, UNSTORE } from "./holding.ts";
import type { Store } from "./stored-names.ts";

const { AF_UNIX, SOCK_SEQPACKET, SOCK_NONBLOCK, EPOLLIN } = constants;
/** For a holder on a busy machine to start and say what it has. */
const ANSWER_MS = 10_000;

export type HeldStoreOptions = {
  /** Of the holder's socket. */
  readonly path: string;
  /** Starts a holder on its listening socket, which is lent. @returns a child to be waited for when it has ended */
  readonly launch: (listener: BorrowedFd) => number;
  readonly logger: Logger;
};

export class HeldStore implements Store, Disposable {
  /** Waits for a child when it has ended, which may be much later; set by who has an event loop. */
  reap: (pid: number) => void = () => undefined;
  readonly #options: HeldStoreOptions;
  #link: OwnedFd | undefined;
  #isLost = false;

  constructor(options: HeldStoreOptions) {
    this.#options = options;
  }

  get isEnabled(): boolean {
    return !this.#isLost;
  }

  /** What an earlier broker left with its holder, by name; the caller's. The holder is ours from now on. */
  takeOver(): ReadonlyMap<string, OwnedFd> {
    this.#link = this.#connect();
    if (this.#link === undefined) return new Map();
    const held = receiveAll(this.#link);
    if (typeof held !== "string") return held;
    if (held === "silent") this.#lose("it does not answer");
    else {
      this.#link.close(); // it has ended, having nothing to hold: there is another one when there is something
      this.#link = undefined;
    }
    return new Map();
  }

  #connect(): OwnedFd | undefined {
    const { path } = this.#options;
    const link = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK);
    try {
      connect(link, unixAddress(path), path);
      if (peerCredentials(link).uid === process.geteuid?.()) return link;
      this.#options.logger.warn(`There is a socket "${path}" of somebody else: what it holds is not believed`);
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error; // nobody is there
    }
    link.close();
    return undefined;
  }

  store(name: string, fd: BorrowedFd): boolean {
    return this.#tell(`${STORE} ${name}`, [fd]);
  }

  unstore(name: string): boolean {
    return this.#tell(`${UNSTORE} ${name}`);
  }

  /** We end as we should: whoever wants a broker starts the next one. */
  stopping(): void {
    if (this.#link !== undefined) this.#tell(STOPPING);
  }

  #tell(text: string, fds: readonly BorrowedFd[] = []): boolean {
    const link = this.#link ?? this.#start();
    if (link === undefined) return false;
    try {
      return sendmsg(link, new TextEncoder().encode(text), fds) !== null;
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
      if (error.errno !== errno.ETOOMANYREFS) this.#lose("it has ended");
      return false;
    }
  }

  #start(): OwnedFd | undefined {
    if (this.#isLost) return undefined;
    try {
      using listener = listenOn(this.#options.path, SOCK_SEQPACKET);
      this.reap(this.#options.launch(listener));
      this.#link = this.#connect(); // which it accepts when it is there
    } catch (error) {
      if (!(error instanceof FailureError || error instanceof SyscallError)) throw error;
      if (!isOutOfDescriptors(error)) this.#lose(error.message); // else there is another time
    }
    return this.#link;
  }

  #lose(why: string): void {
    this.#isLost = true;
    this.#link?.close();
    this.#link = undefined;
    const what = "channels, contexts and offers of now are not listed by a broker after this one";
    this.#options.logger.warn(`There is no process to hold descriptors (${why}): ${what}`);
  }

  [Symbol.dispose](): void {
    this.#link?.close();
  }
}

function isOutOfDescriptors(error: Error): boolean {
  const cause = error instanceof SyscallError ? error : error.cause;
  return cause instanceof SyscallError && (cause.errno === errno.EMFILE || cause.errno === errno.ENFILE);
}

/** @returns "ended" when it goes before it has said all that it has, "silent" when it does not say it, or nonsense */
function receiveAll(link: OwnedFd): ReadonlyMap<string, OwnedFd> | "ended" | "silent" {
  const held = new Map<string, OwnedFd>();
  const deadline = performance.now() + ANSWER_MS;
  for (;;) {
    const said = receiveOne(link, deadline - performance.now());
    const [verb, ...names] = new TextDecoder().decode(said?.bytes).split(" ");
    if (verb === ALL) return held;
    if (said === null || verb !== HELD || names.length !== said.fds.length) {
      closeAll([...(said?.fds ?? []), ...held.values()]);
      return said?.bytes.length === 0 ? "ended" : "silent";
    }
    for (const [index, fd] of said.fds.entries()) held.set(names[index] ?? "", fd);
  }
}

/** @returns null when the time is up; no bytes when it has ended */
function receiveOne(link: OwnedFd, leftMs: number): Received | null {
  try {
    poll([{ fd: link, events: EPOLLIN }], Math.max(leftMs, 0));
    return recvmsg(link);
  } catch (error) {
    if (error instanceof SyscallError) return { bytes: new Uint8Array(0), fds: [], truncated: false };
    throw error;
  }
}

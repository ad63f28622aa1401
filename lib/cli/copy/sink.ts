/**
 * stdout as a place for bytes that never makes us wait, because whoever reads it may itself wait for our other
 * direction. O_NONBLOCK lives on the open file description, which stdout shares with strangers, so a pipe or terminal
 * is opened a second time through /proc; a socket has MSG_DONTWAIT; a regular file never waits.
 */

import { isatty } from "node:tty";
import {
  type BorrowedFd,
  borrowFd,
  constants,
  errno,
  fcntl,
  fstat,
  type OwnedFd,
  open,
  poll,
  SyscallError,
  send,
  write,
} from "../../../ffi/mod.ts";
import type { Reactor, Registration } from "../../transport/reactor.ts";
import { closedStdout, OutputClosedError, OutputError } from "../output.ts";

const { EPOLLERR, EPOLLHUP, EPOLLOUT, MSG_DONTWAIT, MSG_NOSIGNAL, O_NONBLOCK, O_WRONLY, S_IFIFO, S_IFMT, S_IFSOCK } =
  constants;
const O_NOCTTY = 0o400; // asm-generic/fcntl.h
const F_SETPIPE_SZ = 1031; // linux/fcntl.h
const PIPE_BYTES = 1 << 20;
const PIPE_BUF = 4096; // a pipe that is writable takes so much without waiting: pipe(7)

/** "shared": a pipe that could not be opened again; written in small pieces, each after a look. */
type Kind = "plain" | "own" | "socket" | "shared";

export class Sink implements Disposable {
  readonly isTerminal: boolean;
  readonly #kind: Kind;
  readonly #fd: BorrowedFd;
  readonly #owned: OwnedFd | undefined;
  readonly #registration: Registration | undefined;

  /** @param onWritable  called by the reactor once there is room after write() had to give up */
  constructor(reactor: Reactor, number: number, onWritable: () => void) {
    const stdout = borrowFd(number);
    this.isTerminal = isatty(number);
    const type = typeOf(stdout);
    this.#owned = type === S_IFIFO || this.isTerminal ? reopen(number) : undefined;
    this.#fd = this.#owned ?? stdout;
    this.#kind = kindOf(type, this.#owned !== undefined);
    if (this.#kind === "plain") return;
    if (type === S_IFIFO) enlarge(this.#fd);
    this.#registration = reactor.add(this.#fd, 0, (events) => {
      if ((events & (EPOLLERR | EPOLLHUP)) !== 0)
        throw new OutputClosedError("Cannot write to stdout: its reader is gone");
      this.#registration?.modify(0);
      onWritable();
    });
  }

  /** @returns bytes written, null when there is no room; `onWritable` will be called then
   *  @throws OutputClosedError when nobody reads any more, OutputError for a full disk and the like */
  write(bytes: Uint8Array): number | null {
    try {
      const count = this.#write(bytes);
      if (count === null) this.#registration?.modify(EPOLLOUT);
      return count;
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
      if (error.errno === errno.EPIPE || error.errno === errno.ECONNRESET) {
        throw new OutputClosedError("Cannot write to stdout: its reader is gone", { cause: error });
      }
      const hint = error.errno === errno.ENOSPC ? "free some space and send it again" : "the rest is lost";
      throw new OutputError(`Cannot write to stdout: ${reasonOf(error)}; ${hint}`, { cause: error });
    }
  }

  #write(bytes: Uint8Array): number | null {
    if (this.#kind === "socket") return send(this.#fd, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (this.#kind !== "shared") return write(this.#fd, bytes);
    const [events = 0] = poll([{ fd: this.#fd, events: EPOLLOUT }], 0);
    return (events & EPOLLOUT) === 0 ? null : write(this.#fd, bytes.subarray(0, PIPE_BUF));
  }

  [Symbol.dispose](): void {
    this.#registration?.remove();
    this.#owned?.close();
  }
}

function typeOf(fd: BorrowedFd): number {
  try {
    return fstat(fd).mode & S_IFMT;
  } catch (error) {
    throw closedStdout(error);
  }
}

function kindOf(type: number, reopened: boolean): Kind {
  if (reopened) return "own";
  if (type === S_IFSOCK) return "socket";
  return type === S_IFIFO ? "shared" : "plain";
}

/** @returns undefined where that is not allowed: a pipe made by another user, no /proc */
function reopen(number: number): OwnedFd | undefined {
  try {
    return open(`/proc/self/fd/${number}`, O_WRONLY | O_NONBLOCK | O_NOCTTY);
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    if (error.code === "ENXIO")
      throw new OutputClosedError("Cannot write to stdout: its reader is gone", { cause: error });
    return undefined;
  }
}

/** Fewer turns for the same bytes; as it was where the user's pipes are limited. */
function enlarge(pipe: BorrowedFd): void {
  try {
    fcntl(pipe, F_SETPIPE_SZ, PIPE_BYTES);
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
  }
}

function reasonOf(error: SyscallError): string {
  return error.message.slice(error.message.indexOf(": ") + 2);
}

/**
 * Transport over a connected Unix stream socket: bytes and SCM_RIGHTS. What was queued goes
 * out together, up to 28 descriptors at a time, which is what libwayland has room for.
 */
import {
  type BorrowedFd,
  type CloseFd,
  errno,
  type OwnedFd,
  recvmsg,
  SyscallError,
  sendmsg,
  unreadMemory,
} from "../../ffi/mod.ts";
import { ProtocolError } from "../errors.ts";
import { InFlight } from "./in-flight.ts";
import { OutputQueue, type QueueLimits } from "./output-queue.ts";
import { closeAll, type Incoming, type Transport } from "./transport.ts";

const SEND_BYTES = 1 << 16;
const ETOOMANYREFS = 109; // asm-generic/errno.h

export type UnixTransportOptions = QueueLimits & {
  /** How descriptors are closed that the peer has sent. */
  readonly closeFd?: CloseFd;
};

export class UnixTransport implements Transport {
  readonly #fd: OwnedFd;
  readonly #output: OutputQueue;
  readonly #closeFd: CloseFd | undefined;
  readonly #inFlight: InFlight = new InFlight();
  #peerGone = false;
  #starved = false;

  /** Takes `fd`, a connected SOCK_STREAM Unix socket; blocking or not makes no difference. */
  constructor(fd: OwnedFd, options: UnixTransportOptions = {}) {
    this.#fd = fd;
    this.#closeFd = options.closeFd;
    this.#output = new OutputQueue(options);
  }

  get fd(): BorrowedFd {
    return this.#fd;
  }

  get queuedBytes(): number {
    return this.#output.length;
  }

  get queuedFds(): number {
    return this.#output.fdCount;
  }

  unreadFds(few: number): number {
    const queued = this.#output.fdCount;
    if (queued + this.#inFlight.fds > few && !this.#fd.closed) this.#inFlight.settle(unreadMemory(this.#fd));
    return queued + this.#inFlight.fds;
  }

  get starved(): boolean {
    return this.#starved;
  }

  receive(wait = false): Incoming | "end" | null {
    const received = this.#receive(wait);
    if (received === null || received === "end") return received;
    const { bytes, fds, truncated } = received;
    if (truncated) {
      closeAll(fds);
      throw new ProtocolError(
        "Cannot take descriptors: the kernel dropped some, too many came or RLIMIT_NOFILE is reached",
      );
    }
    return bytes.length === 0 ? "end" : { bytes, fds };
  }

  #receive(wait: boolean): ReturnType<typeof recvmsg> | "end" {
    try {
      return recvmsg(this.#fd, wait, this.#closeFd);
    } catch (error) {
      if (isPeerGone(error)) return "end";
      throw error;
    }
  }

  queue(bytes: Uint8Array, fds: readonly OwnedFd[]): void {
    if (this.#peerGone || this.#fd.closed) return closeAll(fds);
    this.#output.push(bytes, fds);
  }

  flush(): "done" | "blocked" {
    this.#starved = false;
    while (this.#output.length > 0) if (!this.#sendChunk()) return "blocked";
    return "done";
  }

  /** @returns false when it would block */
  #sendChunk(): boolean {
    const { bytes, fds } = this.#output.next(SEND_BYTES);
    try {
      const count = sendmsg(this.#fd, bytes, fds);
      if (count === null) return false;
      this.#inFlight.note(count, fds.length);
      if (this.#inFlight.isLong) this.#inFlight.settle(unreadMemory(this.#fd));
      closeAll(this.#output.sent(count));
      return true;
    } catch (error) {
      if (error instanceof SyscallError && error.errno === ETOOMANYREFS) {
        this.#starved = true;
        return false;
      }
      if (!isPeerGone(error)) throw error;
      this.#peerGone = true;
      this.#output.clear();
      return true;
    }
  }

  close(): void {
    this.#output.clear();
    this.#fd.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function isPeerGone(error: unknown): boolean {
  return error instanceof SyscallError && (error.errno === errno.EPIPE || error.errno === errno.ECONNRESET);
}

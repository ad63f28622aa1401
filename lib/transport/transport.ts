/**
 * What carries bytes and descriptors between two processes. Knows nothing of messages. Whatever an implementation
 * does, a descriptor arrives with or before the first byte it was queued with, and no descriptor is ever left open
 * because a call failed. Nothing here waits.
 */
import type { BorrowedFd, OwnedFd } from "../../ffi/mod.ts";
import { FailureError } from "../errors.ts";

/** libwayland's limit (MAX_FDS_OUT): what a queue() may carry, so that every receiver has room. */
export const MAX_FDS_PER_QUEUE = 28;
export const DEFAULT_MAX_QUEUED_BYTES: number = 1 << 20;

/** The caller owns the descriptors. */
export type Incoming = { readonly bytes: Uint8Array; readonly fds: OwnedFd[] };

export interface Transport extends Disposable {
  /** To watch with epoll; it stays the transport's. */
  readonly fd: BorrowedFd;
  /** Bytes that flush() has still to send. */
  readonly queuedBytes: number;
  /** Descriptors among them. */
  readonly queuedFds: number;
  /** With those that were sent and not received: none is left out, and some may be counted that were received, but not
   *  where there would be no more than `few`. */
  unreadFds(few: number): number;
  /** Why the last flush() was blocked: false for a full socket, which EPOLLOUT ends; true for too many descriptors in
   *  flight (ETOOMANYREFS), during which the socket is writable all the time: try again later, not on EPOLLOUT. */
  readonly starved: boolean;

  /** @param wait  sleeps until something comes, where the owner has made the descriptor blocking
   *  @returns what has arrived, "end" when the peer has closed or reset, null when there is nothing yet
   *  @throws ProtocolError when the kernel dropped descriptors; those that came are closed */
  receive(wait?: boolean): Incoming | "end" | null;

  /** Appends to the output; takes `fds` in any case. Dropped quietly once the peer is gone: receive() will say "end".
   *  @throws OverflowError when more than the limit would wait: the peer does not read */
  queue(bytes: Uint8Array, fds: readonly OwnedFd[]): void;

  /** Sends what it can. "done": nothing waits any more. */
  flush(): "done" | "blocked";

  /** Closes the connection and every descriptor still queued. Safe to call twice. */
  close(): void;
}

/** The peer reads too slowly for what it asked for. Ends its connection and no other. */
export class OverflowError extends FailureError {
  readonly limitBytes: number;

  constructor(limitBytes: number) {
    super("quota", `Cannot send to this peer: ${limitBytes} bytes wait already, it does not read`);
    this.limitBytes = limitBytes;
  }
}

export function closeAll(fds: readonly OwnedFd[]): void {
  for (const fd of fds) fd.close();
}

/** Checks what queue() was given; closes `fds` before it throws. */
export function checkQueued(queuedBytes: number, bytes: Uint8Array, fds: readonly OwnedFd[], limitBytes: number): void {
  try {
    if (fds.length > MAX_FDS_PER_QUEUE) throw new RangeError(`Cannot queue ${fds.length} descriptors: 28 is the most`);
    if (fds.length > 0 && bytes.length === 0) throw new RangeError("Cannot queue descriptors without a byte");
    if (queuedBytes + bytes.length > limitBytes) throw new OverflowError(limitBytes);
  } catch (error) {
    closeAll(fds);
    throw error;
  }
}

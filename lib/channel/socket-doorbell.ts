/**
 * A doorbell made of one end of a stream socket pair: a byte wakes, the hang-up says that the peer is gone. Each end
 * has its own open file description, so nothing the peer does to its end can make ours block.
 */
import {
  type BorrowedFd,
  constants,
  type OwnedFd,
  poll,
  recv,
  SyscallError,
  send,
  setNonBlocking,
  shutdown,
} from "../../ffi/mod.ts";
import type { Doorbell } from "../ring/doorbell.ts";

const { EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLRDHUP, MSG_DONTWAIT, MSG_NOSIGNAL } = constants;
const HANG_UP = EPOLLERR | EPOLLHUP | EPOLLRDHUP;
const BYTE: Uint8Array = new Uint8Array(64).subarray(0, 1);
const SINK: Uint8Array = new Uint8Array(4096);
const MAX_READS = 4; // a peer that floods its end costs us so much a wake-up and no more

export class SocketDoorbell implements Doorbell, Disposable {
  readonly #fd: OwnedFd;
  readonly #onHangUp: () => void;
  #hungUp = false;
  #isShared = false;
  #isBlocking = false;

  /** Takes the descriptor. @param onHangUp  called once, when `hungUp` becomes true */
  constructor(fd: OwnedFd, onHangUp: () => void = () => undefined) {
    this.#fd = fd;
    this.#onHangUp = onHangUp;
  }

  /** For an event loop: non-blocking from the first time that somebody asks for it. */
  get fd(): BorrowedFd {
    this.#isShared = true;
    if (this.#isBlocking) setNonBlocking(this.#fd, true);
    this.#isBlocking = false;
    return this.#fd;
  }

  /** The other end was closed, by its process or with it. Once true it stays so. */
  get hungUp(): boolean {
    return this.#hungUp;
  }

  /** A full socket is a bell that rings already. */
  ring(): void {
    if (this.#fd.closed) return;
    try {
      send(this.#fd, BYTE, MSG_DONTWAIT | MSG_NOSIGNAL);
    } catch (error) {
      this.#noteHangUp(error);
    }
  }

  /** Takes the bytes that have arrived, a bounded number of them. */
  drain(): "open" | "hangup" {
    try {
      for (let reads = 0; reads < MAX_READS && !this.#hungUp; reads++) {
        const count = recv(this.#fd, SINK, MSG_DONTWAIT);
        if (count === 0) this.#hangUp();
        if (count === null || count < SINK.length) break;
      }
    } catch (error) {
      this.#noteHangUp(error);
    }
    return this.#hungUp ? "hangup" : "open";
  }

  /** Sleeps until it rings or hangs up. @param timeoutMs  -1 for no limit @returns false when the time was up */
  wait(timeoutMs: number): boolean {
    if (timeoutMs < 0 && !this.#isShared) return this.#waitInRecv();
    const [events = 0] = poll([{ fd: this.#fd, events: EPOLLIN | EPOLLRDHUP }], timeoutMs);
    if (events !== 0) this.drain();
    return events !== 0;
  }

  /** recv(2) instead of poll(2) and recv(2): a third of a round trip between two sleepers, most of it in waking up. */
  #waitInRecv(): true {
    if (!this.#isBlocking) setNonBlocking(this.#fd, false);
    this.#isBlocking = true;
    try {
      if (recv(this.#fd, SINK, 0) === 0) this.#hangUp();
    } catch (error) {
      this.#noteHangUp(error);
    }
    return true;
  }

  /** Looks for a hang-up without waiting and without taking bytes. */
  checkHangUp(): boolean {
    return this.awaitHangUp(0);
  }

  /** Sleeps until it hangs up, deaf to what rings. @param timeoutMs  for how long at most */
  awaitHangUp(timeoutMs: number): boolean {
    const [events = 0] = poll([{ fd: this.#fd, events: EPOLLRDHUP }], timeoutMs);
    if ((events & HANG_UP) !== 0) this.#hangUp();
    return this.#hungUp;
  }

  /** Hangs up even where the descriptor was duplicated or inherited. Safe to call twice. */
  close(): void {
    if (this.#fd.closed) return;
    try {
      shutdown(this.#fd);
    } catch (error) {
      this.#noteHangUp(error);
    }
    this.#fd.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** EPIPE and ECONNRESET (closed with our bytes unread) are the peer's end; ENOTCONN is shutdown() after it. */
  #noteHangUp(error: unknown): void {
    if (!(error instanceof SyscallError) || !["EPIPE", "ECONNRESET", "ENOTCONN"].includes(error.code)) throw error;
    this.#hangUp();
  }

  #hangUp(): void {
    if (this.#hungUp) return;
    this.#hungUp = true;
    this.#onHangUp();
  }
}

/** A descriptor that takes for ever to close: a TCP connection with SO_LINGER whose other end reads nothing. */
import {
  accept,
  bind,
  connect,
  constants,
  getsockname,
  listen,
  type OwnedFd,
  send,
  setsockopt,
  socket,
} from "../../ffi/mod.ts";

const SO_LINGER = 13;
const HOUR_SECONDS = 3600;

export class Lingering implements Disposable {
  /** Whoever closes it last waits for an hour, or until release(). */
  readonly fd: OwnedFd = socket(constants.AF_INET, constants.SOCK_STREAM);
  readonly #reader: OwnedFd;

  constructor() {
    using listener = socket(constants.AF_INET, constants.SOCK_STREAM);
    bind(listener, new Uint8Array([2, 0, 0, 0, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]));
    listen(listener, 1);
    connect(this.fd, getsockname(listener));
    const accepted = accept(listener);
    if (accepted === null) throw new Error("There is no connection to accept");
    this.#reader = accepted.fd;
    const chunk = new Uint8Array(65_536);
    while (send(this.fd, chunk, constants.MSG_DONTWAIT) !== null);
    setsockopt(this.fd, constants.SOL_SOCKET, SO_LINGER, new Uint8Array(new Int32Array([1, HOUR_SECONDS]).buffer));
  }

  /** Resets the connection: who waits in close(2) comes back. */
  release(): void {
    this.#reader.close();
  }

  [Symbol.dispose](): void {
    this.release();
    this.fd.close();
  }
}

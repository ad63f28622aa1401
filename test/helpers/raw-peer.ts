/** A peer that speaks the wire byte by byte, and may lie: for what a client library would never send. */
import {
  type BorrowedFd,
  connect,
  constants,
  type OwnedFd,
  open,
  poll,
  recvmsg,
  sendmsg,
  socket,
  unixAddress,
} from "../../ffi/mod.ts";

export type RawEvent = { readonly sender: number; readonly opcode: number; readonly body: DataView };

/** One message: header and body words. */
export function message(sender: number, opcode: number, ...words: number[]): Uint8Array {
  const bytes = new Uint8Array(8 + words.length * 4);
  const data = new DataView(bytes.buffer);
  data.setUint32(0, sender, true);
  data.setUint32(4, (bytes.length << 16) | opcode, true);
  for (const [index, word] of words.entries()) data.setUint32(8 + index * 4, word, true);
  return bytes;
}

/** A string argument as words: length with NUL, then the bytes padded. */
export function text(value: string): number[] {
  const bytes = new TextEncoder().encode(`${value}\0`);
  const words = new Uint32Array(Math.ceil(bytes.length / 4));
  new Uint8Array(words.buffer).set(bytes);
  return [bytes.length, ...words];
}

export class RawPeer implements Disposable {
  readonly fd: OwnedFd;
  #buffer: Uint8Array = new Uint8Array(0);
  /** Descriptors that came with events. */
  readonly received: OwnedFd[] = [];

  /** @param at  the broker's path, or a connection to it; taken */
  constructor(at: string | OwnedFd) {
    if (typeof at !== "string") {
      this.fd = at;
      return;
    }
    this.fd = socket(constants.AF_UNIX, constants.SOCK_STREAM | constants.SOCK_NONBLOCK);
    connect(this.fd, unixAddress(at), at);
  }

  send(bytes: Uint8Array, fds: readonly BorrowedFd[] = []): void {
    sendmsg(this.fd, bytes, fds);
  }

  /** get_registry (2), bind the manager (3), hello. */
  greet(name = "raw"): void {
    using nothing = open("/dev/null", constants.O_RDONLY);
    this.send(message(1, 1, 2));
    this.send(message(2, 0, 1, ...text("shmlink_manager_v1"), 1, 3));
    this.send(message(3, 0, ...text(name)), [nothing]);
  }

  /** The next event, or undefined at the end of the connection. */
  next(timeoutMs = 10_000): RawEvent | undefined {
    for (;;) {
      const event = this.#take();
      if (event !== undefined) return event;
      const [ready] = poll([{ fd: this.fd, events: constants.EPOLLIN }], timeoutMs);
      if (ready === 0) throw new Error("The broker sent nothing");
      if (!this.#fill()) return undefined;
    }
  }

  #fill(): boolean {
    try {
      const received = recvmsg(this.fd);
      if (received === null) return true;
      this.received.push(...received.fds);
      const joined = new Uint8Array(this.#buffer.length + received.bytes.length);
      joined.set(this.#buffer);
      joined.set(received.bytes, this.#buffer.length);
      this.#buffer = joined;
      return received.bytes.length > 0;
    } catch {
      return false; // reset: the broker closed with input unread
    }
  }

  #take(): RawEvent | undefined {
    if (this.#buffer.length < 8) return undefined;
    const data = new DataView(this.#buffer.buffer, this.#buffer.byteOffset, this.#buffer.length);
    const head = data.getUint32(4, true);
    const size = head >>> 16;
    if (this.#buffer.length < size) return undefined;
    const bytes = this.#buffer.slice(0, size);
    this.#buffer = this.#buffer.slice(size);
    return { sender: data.getUint32(0, true), opcode: head & 0xffff, body: new DataView(bytes.buffer, 8) };
  }

  /** Reads to wl_display.error and the end. @returns the error, undefined when the connection just ended */
  nextError(): { readonly objectId: number; readonly code: number; readonly message: string } | undefined {
    for (let event = this.next(); event !== undefined; event = this.next()) {
      if (event.sender !== 1 || event.opcode !== 0) continue;
      const length = event.body.getUint32(8, true);
      const bytes = new Uint8Array(event.body.buffer, event.body.byteOffset + 12, length - 1);
      const found = { objectId: event.body.getUint32(0, true), code: event.body.getUint32(4, true) };
      return { ...found, message: new TextDecoder().decode(bytes) };
    }
    return undefined;
  }

  [Symbol.dispose](): void {
    this.fd.close();
    for (const fd of this.received) fd.close();
  }
}

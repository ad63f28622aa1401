/**
 * The competition: the same bytes over a Unix socket or loopback TCP, by a plain blocking loop with large buffers, so
 * that only the way between the processes differs. Run as processes of their own by `shmlink demo --relay`.
 */
import { type BorrowedFd, borrowFd, constants, poll, read, shutdown } from "../../../ffi/mod.ts";
import { Progress } from "../copy/progress.ts";
import { acceptOne, connectWaiting, writeAll } from "./plain-socket.ts";

const { EPOLLIN, SHUT_WR } = constants;
const BUFFER_BYTES = 1 << 18;

/** Socket → stdout. @param where  a path, or a port of 127.0.0.1 */
export function receive(where: string): void {
  using connection = acceptOne(where);
  const progress = new Progress("relay", { verbose: true, sharesScreen: false });
  const bytes = { received: 0, sent: 0 };
  copy(connection, borrowFd(1), (count) => {
    bytes.received += count;
    progress.update({ bytes });
  });
  progress.finish({ bytes, messages: undefined });
}

/** Stdin → socket. @param where  a path, or a port of 127.0.0.1 */
export function transmit(where: string): void {
  using connection = connectWaiting(where);
  copy(borrowFd(0), connection, () => undefined);
  shutdown(connection, SHUT_WR);
  read(connection, new Uint8Array(1)); // the end of the other side: all has arrived
}

function copy(from: BorrowedFd, to: BorrowedFd, onBytes: (count: number) => void): void {
  const buffer = new Uint8Array(BUFFER_BYTES);
  for (;;) {
    const count = read(from, buffer);
    if (count === 0) return;
    if (count === null) {
      poll([{ fd: from, events: EPOLLIN }], -1);
      continue;
    }
    onBytes(count);
    writeAll(to, buffer.subarray(0, count));
  }
}

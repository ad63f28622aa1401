/**
 * The competition: the same bytes over a Unix socket or loopback TCP, by a plain blocking loop with large buffers, so
 * that only the way between the processes differs. Run as processes of their own by `shmlink demo --relay`.
 */
import {
  accept,
  type BorrowedFd,
  bind,
  borrowFd,
  connect,
  constants,
  inetAddress,
  listen,
  type OwnedFd,
  poll,
  read,
  SyscallError,
  shutdown,
  socket,
  unixAddress,
  write,
} from "../../../ffi/mod.ts";
import { Progress } from "../copy/progress.ts";
import { UsageError } from "../usage-error.ts";

const { AF_INET, AF_UNIX, EPOLLIN, EPOLLOUT, SHUT_WR, SOCK_STREAM } = constants;
const BUFFER_BYTES = 1 << 18;
const CONNECT_MS = 5000;
const RETRY_MS = 20;

type Target = { readonly domain: number; readonly address: Uint8Array };

/** @param role  "receive": socket → stdout; "send": stdin → socket  @param where  a path, or a port of 127.0.0.1 */
export function relay(role: string, where: string): void {
  const target = parseTarget(where);
  if (role === "receive") receive(target, where);
  else if (role === "send") transmit(target, where);
  else throw new UsageError(`Cannot use --relay "${role}": receive or send is wanted`);
}

function parseTarget(where: string): Target {
  if (where.startsWith("/")) return { domain: AF_UNIX, address: unixAddress(where) };
  const host = Uint8Array.of(127, 0, 0, 1);
  return { domain: AF_INET, address: inetAddress({ family: AF_INET, host, port: Number(where) }) };
}

function receive({ domain, address }: Target, where: string): void {
  using listener = socket(domain, SOCK_STREAM);
  bind(listener, address, where);
  listen(listener, 1);
  const accepted = accept(listener, 0);
  if (accepted === null) throw new Error("a blocking accept() had nothing");
  using connection = accepted.fd;
  const progress = new Progress("relay", { verbose: true, sharesScreen: false });
  const bytes = { received: 0, sent: 0 };
  copy(connection, borrowFd(1), (count) => {
    bytes.received += count;
    progress.update({ bytes });
  });
  progress.finish({ bytes, messages: undefined });
}

function transmit(target: Target, where: string): void {
  using connection = connectWaiting(target, where);
  copy(borrowFd(0), connection, () => undefined);
  shutdown(connection, SHUT_WR);
  read(connection, new Uint8Array(1)); // the end of the other side: all has arrived
}

/** The receiver may still be starting. */
function connectWaiting({ domain, address }: Target, where: string): OwnedFd {
  for (const start = performance.now(); ; ) {
    const fd = socket(domain, SOCK_STREAM);
    try {
      connect(fd, address, where);
      return fd;
    } catch (error) {
      fd.close();
      if (!(error instanceof SyscallError) || performance.now() - start > CONNECT_MS) throw error;
      poll([], RETRY_MS);
    }
  }
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

function writeAll(to: BorrowedFd, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; ) {
    const count = write(to, bytes.subarray(done));
    if (count === null) poll([{ fd: to, events: EPOLLOUT }], -1);
    else done += count;
  }
}

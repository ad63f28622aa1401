/** A blocking Unix or loopback TCP socket between two processes of the demonstration: what channels are compared with. */
import {
  accept,
  type BorrowedFd,
  bind,
  connect,
  constants,
  inetAddress,
  listen,
  type OwnedFd,
  poll,
  SyscallError,
  setsockopt,
  socket,
  unixAddress,
  write,
} from "../../../ffi/mod.ts";

const { AF_INET, AF_UNIX, EPOLLOUT, IPPROTO_TCP, SOCK_STREAM, TCP_NODELAY } = constants;
const CONNECT_MS = 5000;
const RETRY_MS = 20;

type Target = { readonly domain: number; readonly address: Uint8Array };

function parseTarget(where: string): Target {
  if (where.startsWith("/")) return { domain: AF_UNIX, address: unixAddress(where) };
  const host = Uint8Array.of(127, 0, 0, 1);
  return { domain: AF_INET, address: inetAddress({ family: AF_INET, host, port: Number(where) }) };
}

/** Waits for one to connect. @param where  a path, or a port of 127.0.0.1 @returns to be closed by the caller */
export function acceptOne(where: string): OwnedFd {
  const { domain, address } = parseTarget(where);
  using listener = socket(domain, SOCK_STREAM);
  bind(listener, address, where);
  listen(listener, 1);
  const accepted = accept(listener, 0);
  if (accepted === null) throw new Error("a blocking accept() had nothing");
  return withoutDelay(accepted.fd, domain);
}

/** The other side may still be starting. @param where  as of acceptOne() @returns to be closed by the caller */
export function connectWaiting(where: string): OwnedFd {
  const { domain, address } = parseTarget(where);
  for (const start = performance.now(); ; ) {
    const fd = socket(domain, SOCK_STREAM);
    try {
      connect(fd, address, where);
      return withoutDelay(fd, domain);
    } catch (error) {
      fd.close();
      if (!(error instanceof SyscallError) || performance.now() - start > CONNECT_MS) throw error;
      poll([], RETRY_MS);
    }
  }
}

function withoutDelay(fd: OwnedFd, domain: number): OwnedFd {
  if (domain === AF_INET) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, new Uint8Array(Int32Array.of(1).buffer));
  return fd;
}

export function writeAll(to: BorrowedFd, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; ) {
    const count = write(to, done === 0 ? bytes : bytes.subarray(done));
    if (count === null) poll([{ fd: to, events: EPOLLOUT }], -1);
    else done += count;
  }
}

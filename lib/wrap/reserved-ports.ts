/**
 * The local ports that programs had bound before they connected. TCP keeps such a port for as long as the connection is
 * there; the Unix socket in its place does not, and the kernel would give the port to the next program that asks for
 * any, whose connection would look like this one. So a TCP socket stays bound to it until the Unix socket ends.
 */
import {
  type BorrowedFd,
  bind,
  constants,
  getIntOption,
  type OwnedFd,
  SyscallError,
  setsockopt,
  socket,
} from "../../ffi/mod.ts";
import type { Ending, EndWatch } from "./end-watch.ts";
import type { Endpoint } from "./host.ts";
import type { Domain } from "./names.ts";
import { cookieOf, familyOf, socketAddress } from "./socket.ts";
import type { Cookie } from "./socket-table.ts";

const { IPPROTO_IPV6, IPV6_V6ONLY, SO_REUSEADDR, SO_REUSEPORT, SOL_SOCKET } = constants;

const SHARING = [
  [SOL_SOCKET, SO_REUSEADDR],
  [SOL_SOCKET, SO_REUSEPORT],
] as const;
const SHARING_V6 = [...SHARING, [IPPROTO_IPV6, IPV6_V6ONLY]] as const;

/** How a socket shares its port, as setsockopt(2) takes it. */
export type Sharing = readonly (readonly [level: number, name: number, value: number])[];

export type Port = { readonly domain: Domain; readonly bound: Endpoint; readonly sharing: Sharing };

type Reserved = { readonly fd: OwnedFd; readonly ending: Ending };

export class ReservedPorts implements Disposable {
  readonly #ends: EndWatch;
  readonly #most: number;
  readonly #reserved: Map<Cookie, Reserved> = new Map();

  /** @param most  how many descriptors it may take */
  constructor(ends: EndWatch, most: number) {
    this.#ends = ends;
    this.#most = most;
  }

  /** Where the port cannot be kept (a process that inherited the socket has it, descriptors are short) it is free.
   *  @param unix  whose connection it is; lent @param port  that nobody is bound to any more */
  keep(unix: BorrowedFd, { domain, bound, sharing }: Port): void {
    if (this.#reserved.size >= this.#most) return;
    using stack = new DisposableStack();
    try {
      const fd = stack.use(socket(familyOf(domain), constants.SOCK_STREAM));
      for (const [level, name, value] of sharing) setsockopt(fd, level, name, value);
      bind(fd, socketAddress(domain, bound));
      const cookie = cookieOf(unix);
      const ending = this.#ends.watch(unix, () => this.release(cookie));
      if (ending === undefined) return;
      stack.move();
      this.#reserved.set(cookie, { fd, ending });
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
    }
  }

  /** The socket with that cookie has ended, or is about to. */
  release(cookie: Cookie): void {
    const reserved = this.#reserved.get(cookie);
    if (reserved === undefined) return;
    this.#reserved.delete(cookie);
    reserved.ending.forget();
    reserved.fd.close();
  }

  [Symbol.dispose](): void {
    for (const cookie of [...this.#reserved.keys()]) this.release(cookie);
  }
}

/** Of the socket whose port is to be kept, before it is closed. */
export function sharingOf(tcp: BorrowedFd, domain: Domain): Sharing {
  return (domain === 6 ? SHARING_V6 : SHARING).map(([level, name]) => [level, name, getIntOption(tcp, level, name)]);
}

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
  listen,
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

/** A port that a program had bound, and where its connection comes from. */
export type Port = { readonly domain: Domain; readonly bound: Endpoint };

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

  /** From here on the port is taken, also while `tcp` is closed. Where it cannot be kept (descriptors are short) it is free then.
   *  @param unix  whose connection it is; lent
   *  @param tcp  that was bound to it, and is open still, in nobody's use: it may listen from then on; lent */
  keep(unix: BorrowedFd, tcp: BorrowedFd, port: Port): void {
    if (this.#reserved.size >= this.#most) return;
    using stack = new DisposableStack();
    try {
      const fd = stack.use(socket(familyOf(port.domain), constants.SOCK_STREAM));
      bindBeside(fd, tcp, port);
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

/** Binds it to a port that `tcp` has, which is as if it had come by it later: both let others in for that moment. From
 *  then on each shares the port as `tcp` did. */
function bindBeside(fd: BorrowedFd, tcp: BorrowedFd, { domain, bound }: Port): void {
  for (const [level, name] of domain === 6 ? SHARING_V6 : SHARING)
    setsockopt(fd, level, name, getIntOption(tcp, level, name));
  const isShared = getIntOption(tcp, SOL_SOCKET, SO_REUSEADDR);
  try {
    for (const each of [fd, tcp]) setsockopt(each, SOL_SOCKET, SO_REUSEADDR, 1);
    bind(fd, socketAddress(domain, bound));
    listenIfPossible(tcp);
  } finally {
    for (const each of [fd, tcp]) setsockopt(each, SOL_SOCKET, SO_REUSEADDR, isShared);
  }
}

/** Nobody gets in beside a listener. It is to be one for a moment in any case, for whatWasChosen(), and beside another
 *  socket cannot become one later. */
function listenIfPossible(tcp: BorrowedFd): void {
  try {
    listen(tcp, 1);
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error; // somebody else listens
  }
}

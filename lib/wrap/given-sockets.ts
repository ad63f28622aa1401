/** Listening Unix sockets that came by LISTEN_FDS (sd_listen_fds(3)), for rules with "systemd". */
import {
  borrowFd,
  constants,
  duplicateFd,
  getIntOption,
  getsockname,
  type OwnedFd,
  readUnixAddress,
} from "../../ffi/mod.ts";
import { FailureError } from "../errors.ts";

const FIRST = 3;

type Given = { readonly number: number; readonly name: string; used: boolean };

export class GivenSockets {
  readonly #sockets: Given[];

  /** @param numbers  inherited descriptors, LISTEN_FDS of them from 3 on @param names  LISTEN_FDNAMES */
  constructor(count: number, names: string | undefined) {
    const list = names?.split(":") ?? [];
    this.#sockets = Array.from({ length: count }, (_, index) => {
      return { number: FIRST + index, name: list[index] ?? "unknown", used: false };
    });
  }

  /** The socket of that name, or the next that nobody has taken. A copy: the caller's.
   *  @throws FailureError when there is none, or it is no listening Unix socket */
  take(name: string | undefined): { readonly fd: OwnedFd; readonly path: string } {
    const found = this.#sockets.find((socket) => (name === undefined ? !socket.used : socket.name === name));
    const wanted = name === undefined ? "another socket" : `a socket named "${name}"`;
    if (found === undefined) throw new FailureError("invalid", `Cannot find ${wanted} among those of LISTEN_FDS`);
    const fd = borrowFd(found.number);
    const { AF_UNIX, SO_ACCEPTCONN, SO_DOMAIN, SOL_SOCKET } = constants;
    if (getIntOption(fd, SOL_SOCKET, SO_DOMAIN) !== AF_UNIX || getIntOption(fd, SOL_SOCKET, SO_ACCEPTCONN) === 0) {
      throw new FailureError("invalid", `Cannot use descriptor ${found.number} of LISTEN_FDS: it is no Unix listener`);
    }
    found.used = true;
    return { fd: duplicateFd(fd), path: readUnixAddress(getsockname(fd)) ?? "" };
  }
}

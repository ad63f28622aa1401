/** connect(2) to AF_UNSPEC: what was handed off becomes an unconnected TCP socket again, under the same number. */
import {
  constants,
  getStatusFlags,
  type OwnedFd,
  SyscallError,
  setNonBlocking,
  setsockopt,
  socket,
} from "../../../ffi/mod.ts";
import { type Answer, CONTINUE, DONE, value } from "../answer.ts";
import type { Call, Context } from "../context.ts";
import type { Domain } from "../names.ts";
import { cookieOf, familyOf, inspectSocket } from "../socket.ts";
import { keyOption } from "../socket-table.ts";
import { swapSocket } from "../swap.ts";

export function disconnect(context: Context, call: Call, fd: OwnedFd): Answer {
  const shape = inspectSocket(fd);
  if (shape === undefined) return CONTINUE; // a TCP socket knows how to
  using tcp = freshSocket(context, fd, shape.domain);
  return swapSocket(context, call, fd, tcp) ? value(0) : DONE;
}

/** With the options that the program had set. */
function freshSocket({ table, template }: Context, old: OwnedFd, domain: Domain): OwnedFd {
  const fresh = socket(familyOf(domain), constants.SOCK_STREAM);
  setNonBlocking(fresh, (getStatusFlags(old) & constants.O_NONBLOCK) !== 0);
  const remembered = [...table.options(cookieOf(old))].map(([key, value]) => ({ option: keyOption(key), value }));
  for (const { option, value } of [...template(domain).commonOptions(old), ...remembered]) {
    try {
      setsockopt(fresh, option[0], option[1], value);
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error; // one that a fresh socket does not take
    }
  }
  table.touch(cookieOf(fresh));
  return fresh;
}

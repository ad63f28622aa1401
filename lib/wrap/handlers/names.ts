/** getsockname(2) and getpeername(2): a socket of ours shows the addresses of the TCP connection it stands for. */
import { errno } from "../../../ffi/mod.ts";
import { type Answer, CONTINUE, failure, readLength, value, writeResult } from "../answer.ts";
import type { Call, Context } from "../context.ts";
import type { Endpoint } from "../host.ts";
import type { Shape } from "../names.ts";
import { cookieOf, inspectSocket, socketAddress } from "../socket.ts";

export function handleGetsockname(context: Context, call: Call): Answer {
  return answerWith(context, call, ({ local }) => local);
}

/** ENOTCONN for a listener, from the kernel. */
export function handleGetpeername(context: Context, call: Call): Answer {
  return answerWith(context, call, ({ remote }) => remote);
}

function answerWith({ table }: Context, call: Call, choose: (shape: Shape) => Endpoint | undefined): Answer {
  const { tracee, args } = call;
  using fd = tracee.descriptor(args[0]);
  const shape = fd && inspectSocket(fd);
  const endpoint = shape && choose(shape);
  if (fd === undefined || shape === undefined || endpoint === undefined) return CONTINUE;
  const listener = shape.kind === "listener" ? table.listener(cookieOf(fd)) : undefined;
  if (listener !== undefined) call.counters = listener.counters;
  const [, address, lengthAddress] = args;
  const room = readLength(tracee, lengthAddress);
  if (room < 0) return failure(-room);
  if (address === 0 && room > 0) return failure(errno.EFAULT);
  const written = writeResult(tracee, { address, lengthAddress, room }, socketAddress(shape.domain, endpoint));
  return written === 0 ? value(0) : failure(written);
}

/** Which handler answers which call. */
import { type Answer, CONTINUE } from "../answer.ts";
import type { Context, Handler } from "../context.ts";
import type { Machine, TrappedCall } from "../syscalls.ts";
import type { Accepting } from "./accept.ts";
import { handleBind } from "./bind.ts";
import { handleConnect } from "./connect.ts";
import { handleListen } from "./listen.ts";
import { handleGetpeername, handleGetsockname } from "./names.ts";
import { handleGetsockopt, handleSetsockopt } from "./options.ts";
import { handleSendto } from "./sendto.ts";

/** By the number of the call. */
export function handlersFor({ numbers }: Machine, accepting: Accepting): ReadonlyMap<number, Handler> {
  const byName: Record<TrappedCall, Handler> = {
    bind: handleBind,
    listen: handleListen,
    connect: handleConnect,
    accept: (context, call) => accepting.handleAccept(context, call),
    accept4: (context, call) => accepting.handleAccept4(context, call),
    getsockname: handleGetsockname,
    getpeername: handleGetpeername,
    setsockopt: handleSetsockopt,
    getsockopt: handleGetsockopt,
    sendto: handleSendto,
    epoll_create: handleEpollCreate,
    epoll_create1: handleEpollCreate,
  };
  return new Map(Object.entries(byName).map(([name, handler]) => [numbers[name as TrappedCall], handler]));
}

/** Only to know of it: the kernel makes the set. */
function handleEpollCreate({ holdings }: Context): Answer {
  holdings.expectEpollSet();
  return CONTINUE;
}

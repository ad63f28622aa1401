/**
 * bind(2) is the kernel's. But a listener that the program has closed a moment ago may have left us its TCP socket, and
 * the program may want that port again at once: what has been closed is noticed first.
 */
import { type Answer, CONTINUE } from "../answer.ts";
import type { Context } from "../context.ts";

export function handleBind({ listeners }: Context): Answer {
  listeners.noticeClosed();
  return CONTINUE;
}

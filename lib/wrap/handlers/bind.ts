/**
 * bind(2) is the kernel's. But what the program has closed a moment ago may have left us a TCP socket, a listener its own
 * and a client that was bound one that keeps its port, and the program may want that port again at once: what has been
 * closed is noticed first.
 */
import { type Answer, CONTINUE } from "../answer.ts";
import type { Context } from "../context.ts";

export function handleBind({ ends }: Pick<Context, "ends">): Answer {
  ends.notice();
  return CONTINUE;
}

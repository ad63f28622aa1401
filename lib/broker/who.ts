/** Who did something, for a line of the log. Pure. */
import type { Fields } from "../log.ts";
import { contextName } from "../util/context-word.ts";
import type { Owner } from "./records.ts";

/**
 * uid and pid as the kernel gives them; the context through which he came; and the number of a minted connection, as in
 * listings. Its uid and pid are those of who minted the first of its line: who holds it, nobody knows.
 */
export function whoIs({ uid, pid, context, grants }: Owner): Fields {
  const through = context && contextName(context);
  return { uid, pid, context: through, connection: grants?.connection };
}

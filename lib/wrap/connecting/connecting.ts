/** One connect() on its way over a Unix socket, as every step of it sees it. */
import type { OwnedFd } from "../../../ffi/mod.ts";
import type { Call, Context } from "../context.ts";
import type { Plan } from "./plan.ts";

export type Connecting = {
  readonly context: Context;
  readonly call: Call;
  readonly plan: Plan;
  /** The program's socket. */
  readonly tcp: OwnedFd;
  /** What is to take its place. */
  readonly unix: OwnedFd;
};

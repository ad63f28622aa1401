/**
 * Sockets that systemd gave us for the program (sd_listen_fds(3)). LISTEN_PID is ours and has to become the program's,
 * which nobody knows before it runs: so a shell sets it and executes the program. With a "systemd" rule the sockets are
 * wrap's to hand out, and the program is not told of them.
 */
import { GivenSockets } from "../wrap/given-sockets.ts";
import type { Rule } from "../wrap/rules/types.ts";

type Env = Readonly<Record<string, string | undefined>>;

export type Passed = {
  readonly argv: readonly string[];
  readonly env: Env;
  readonly inheritedFds: readonly number[];
  readonly given: GivenSockets;
};

const NONE = new GivenSockets(0, undefined);

export function passListenFds(
  env: Env,
  argv: readonly string[],
  inheritedFds: readonly number[],
  rules: readonly Rule[],
): Passed {
  const count = Number(env["LISTEN_FDS"] ?? "0");
  if (env["LISTEN_PID"] !== String(process.pid) || !(count > 0)) return { argv, env, inheritedFds, given: NONE };
  if (rules.some(({ action }) => action.kind === "systemd")) {
    const { LISTEN_PID: _pid, LISTEN_FDS: _fds, LISTEN_FDNAMES: names, ...rest } = env;
    const others = inheritedFds.filter((number) => number >= 3 + count);
    return { argv, env: rest, inheritedFds: others, given: new GivenSockets(count, names) };
  }
  const script = `export LISTEN_PID=$$; ${env["PWD"] === undefined ? "unset PWD; " : ""}exec "$@"`;
  return { argv: ["/bin/sh", "-c", script, "sh", ...argv], env, inheritedFds, given: NONE };
}

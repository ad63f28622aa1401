/** A wrapped program finds its process as it would have been without wrap: all of it is compared. */
import { expect, test } from "bun:test";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { Cli } from "../cli/fixture.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { requires } from "../helpers/requires.ts";
import { BUN, buildForNode, ROOT, RUNTIMES } from "../helpers/runtimes.ts";
import { Running } from "../helpers/wrapped.ts";

expectNoFdLeaks();
const python = requires.program("python3", "python3");
const PROGRAM = ["python3", "-I", join(ROOT, "test/fixtures/programs/process-state.py"), "a b", "--json", ""];

/** What a shell cannot set: blocked signals, and those above 31. */
const SIGNALS = `import os, signal, sys
signal.pthread_sigmask(signal.SIG_SETMASK, [2, 10, 15, 20, 31, 34, 64])
for number in (21, 25, 34, 63): signal.signal(number, signal.SIG_IGN)
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])`;

/** Unusual in all that can be set; then runs its arguments. */
const SCRIPT = (stdio: string): string => `umask 027; ulimit -Sn 345; ulimit -c 0; ulimit -Ss 4096; cd sub
trap "" USR2 HUP; exec 5</etc/passwd 7>>out 9<>out
SET=$1; shift; export SHELL_PID=$$ ODD='a = "b"' EMPTY=
exec ${stdio}
exec nice -n 3 python3 -I -c "$SET" "$@"`;

async function stateOf(cli: Cli, command: readonly string[], stdio = "0</dev/null"): Promise<string[]> {
  const running = new Running(["bash", "-c", SCRIPT(stdio), "bash", SIGNALS, ...command], cli.directory);
  expect(await running.exit, running.output).toBe(0);
  return running.output.replace(/^env SHELL_PID .*$/m, "env SHELL_PID").split("\n");
}

requires.test(
  [python],
  "a signal that wrap was started to block reaches the program, by a wrap inside it, too",
  async () => {
    await using cli = new Cli(BUN);
    const blocking = `import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGCHLD])
os.execvp(sys.argv[1], sys.argv[1:])`;
    const waiting = `import signal, sys
print("ready", flush=True)
sys.exit(signal.sigwait([signal.SIGTERM]))`;
    const wrap = [join(ROOT, "bin/shmlink"), "wrap", "--"];
    const program = ["python3", "-I", "-c", blocking, ...wrap, ...wrap, "python3", "-I", "-c", waiting];
    const running = new Running(["env", `SHMLINK_SOCKET=${cli.socketPath}`, ...program], cli.directory);
    await running.match(/ready/);
    running.child.kill("SIGTERM");
    expect(await running.exit, running.output).toBe(15);
  },
  60_000,
);

if (RUNTIMES.some(({ name }) => name === "node")) test("the build for node is there", buildForNode, 180_000);

for (const runtime of RUNTIMES) {
  requires.test(
    [python],
    `environment, descriptors, limits, signals, masks and all the rest are the program's own, on ${runtime.name}`,
    async () => {
      await using cli = new Cli(BUN);
      mkdirSync(join(cli.directory, "sub"));
      const set = ["env", `SHMLINK_SOCKET=${cli.socketPath}`, `SHMLINK_RUNTIME=${runtime.name}`];
      const native = await stateOf(cli, [...set, ...PROGRAM]);
      expect(native.length).toBeGreaterThan(40);
      expect(native).toContain("status SigBlk 8000000240084202");
      expect(native).toContain("status SigIgn 4000000201101801");
      const wrapped = await stateOf(cli, [...set, join(ROOT, "bin/shmlink"), "wrap", "--", ...PROGRAM]);
      // seccomp(2): a filter needs CAP_SYS_ADMIN or no_new_privs
      const expected =
        process.geteuid?.() === 0 ? native : native.map((line) => line.replace("NoNewPrivs 0", "NoNewPrivs 1"));
      expect(wrapped).toEqual(expected);
    },
    60_000,
  );

  requires.test(
    [python],
    `a stdin and a stderr that were closed are closed for the program, on ${runtime.name}`,
    async () => {
      await using cli = new Cli(BUN);
      mkdirSync(join(cli.directory, "sub"));
      const set = ["env", `SHMLINK_SOCKET=${cli.socketPath}`, `SHMLINK_RUNTIME=${runtime.name}`];
      const fds = async (command: readonly string[]): Promise<string[]> =>
        (await stateOf(cli, [...set, ...command], "0<&- 2>&-")).filter((line) => line.startsWith("fd "));
      const native = await fds(PROGRAM);
      expect(native.map((line) => line.split(" ")[1])).not.toContain("0");
      expect(await fds([join(ROOT, "bin/shmlink"), "wrap", "--", ...PROGRAM])).toEqual(native);
    },
    60_000,
  );
}

/** Ctrl-C while a command starts its program: the terminal sends it to those that are there, and that one is not yet. */
import { expect } from "bun:test";
import { join } from "node:path";
import { memfdCreate } from "../../ffi/mod.ts";
import { TestBroker, waitUntil } from "../helpers/broker.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { requires } from "../helpers/requires.ts";
import { BUN } from "../helpers/runtimes.ts";
import { StayingProgram } from "../helpers/staying.ts";
import { injecting } from "../helpers/strace.ts";

expectNoFdLeaks();

/** Sends SIGINT to who is about to start a program, and to nobody else. */
const INTERRUPTED = injecting("clone", "signal=SIGINT");
const PROGRAM = ["--", "sh", "-c", "read line"];
const CONTEXT = ["--engine=test", "--app=a", "--instance=1"];

const COMMANDS: Readonly<Record<string, (directory: string) => string[]>> = {
  take: () => ["take", "gift"],
  "take --keep": () => ["take", "gift", "--keep"],
  run: () => ["run", "--grant=dial:db"],
  "context create": (directory) => ["context", "create", ...CONTEXT, `--path=${join(directory, "context.sock")}`],
};

for (const [name, words] of Object.entries(COMMANDS)) {
  requires.test(
    [requires.program("strace", "strace")],
    `shmlink ${name} passes on a SIGINT that came before its program was there`,
    async () => {
      await using broker = new TestBroker();
      using link = broker.connect();
      using offer = link.offer("gift");
      using file = memfdCreate("gift");
      offer.publish([file]);
      const command = BUN.command("bin/shmlink.ts", ...words(broker.directory), ...PROGRAM);
      await using running = new StayingProgram(broker, [...INTERRUPTED, ...command]);
      await waitUntil(() => running.closed, "the command to end");
      expect(running.child.exitCode, running.stderr).toBe(130);
    },
    30_000,
  );
}

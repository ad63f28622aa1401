/** What a supervisor does without on older kernels: a program sees the same natively and under wrap. */
import { expect } from "bun:test";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { requires } from "../helpers/requires.ts";
import { compileFixture, Stage, splitLog } from "../helpers/wrapped.ts";

expectNoFdLeaks();
const cc = requires.program("cc", "gcc");
const python = requires.program("python3", "python3");

const TRY = `
import os
for flags in (0, 0o200):
    try: os.close(os.pidfd_open(os.getpid(), flags)); print(flags, "opened")
    except OSError as error: print(flags, error.strerror)
`;

requires.test([cc, python], "before-6.9 refuses PIDFD_THREAD, and nothing else", async () => {
  await using stage = new Stage();
  const tried = stage.plain([compileFixture("before-6.9"), "python3", "-c", TRY]);
  expect(await tried.exit).toBe(0);
  expect(tried.output).toBe("0 opened\n128 Invalid argument\n");
});

/** Programs whose calls come from a thread that does not lead its process, and what each is told. */
const CASES: readonly (readonly [program: string, name: string])[] = [
  ["tcp-corners", "epoll-then-connect"],
  ["tcp-corners", "epoll-then-listen"],
  ["tcp-corners", "dup-then-connect"],
  ["tcp-corners", "dup-then-listen"],
  ["tcp-corners", "unspec"],
  ["tcp-corners", "listen-again"],
  ["tcp-corners", "oob"],
  ["tcp-edges", "handed-on"],
  ["tcp-hard", "reused-id"],
  ["tcp-hard", "thread-id"],
];

for (const [program, name] of CASES) {
  requires.test(
    [cc],
    `without PIDFD_THREAD (Linux 6.9) a thread that does not lead its process is served: ${program} ${name}`,
    async () => {
      await using stage = new Stage();
      const argv = [compileFixture(program, "in-thread.h"), name];
      const native = stage.plain(argv);
      expect(await native.exit, native.output).toBe(0);
      const wrapped = stage.plain([compileFixture("before-6.9"), ...stage.wrapCommand(argv, { flags: ["--log"] })]);
      expect(await wrapped.exit, wrapped.output).toBe(0);
      const { program: said, log } = splitLog(wrapped.output);
      expect(said).toBe(native.output);
      expect(log).toContain("Handed off tcp:127.0.0.1:");
      expect(stage.registry.fallbacks()).toEqual([]);
    },
    60_000,
  );
}

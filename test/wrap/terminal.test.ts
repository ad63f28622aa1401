/** A wrapped program at a terminal: keys, signals and job control reach it as if it ran alone, once each. */
import { expect } from "bun:test";
import { join } from "node:path";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { requires } from "../helpers/requires.ts";
import { ROOT, RUNTIMES } from "../helpers/runtimes.ts";
import { Stage } from "../helpers/wrapped.ts";

expectNoFdLeaks();
const python = requires.program("python3", "python3");
const SHELL = join(ROOT, "test/fixtures/programs/job-control.py");
const JOB = ["python3", SHELL, "--job"];

for (const runtime of RUNTIMES) {
  requires.test(
    [python],
    `Ctrl-C, Ctrl-Z, fg and kill do to a wrapped job what they do to a native one, on ${runtime.name}`,
    async () => {
      await using stage = new Stage();
      const native = stage.plain(["python3", SHELL, ...JOB]);
      expect(await native.exit).toBe(0);
      expect(native.output).toContain("Ctrl-C <int>=1");
      const wrapped = stage.plain(["python3", SHELL, ...stage.wrapCommand(JOB, { runtime })]);
      expect(await wrapped.exit).toBe(0);
      expect(wrapped.output).toBe(native.output);
    },
    60_000,
  );
}

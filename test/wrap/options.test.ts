/** Options at SOL_SOCKET across listen() and accept(): a program sees the same natively and under wrap. */
import { expect } from "bun:test";
import { join } from "node:path";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { requires } from "../helpers/requires.ts";
import { ROOT } from "../helpers/runtimes.ts";
import { Stage } from "../helpers/wrapped.ts";

expectNoFdLeaks();

type Case = {
  readonly title: string;
  readonly args: readonly string[];
};

const CASES: readonly Case[] = [
  { args: ["inherited"], title: "connections have what was set on their listener, but for the priority" },
];

for (const { title, args } of CASES) {
  requires.test(
    [requires.program("python3", "python3")],
    title,
    async () => {
      await using stage = new Stage();
      const program = ["python3", join(ROOT, "test/fixtures/programs/options.py"), ...args];
      const [native, wrapped] = [stage.plain(program), stage.wrap(program)];
      expect([await native.exit, await wrapped.exit], native.output + wrapped.output).toEqual([0, 0]);
      const lines = wrapped.output.split("\n").filter((line) => !line.startsWith("wrap warn: "));
      expect(lines.join("\n")).toBe(native.output);
      expect(stage.registry.fallbacks()).toEqual([]);
    },
    60_000,
  );
}

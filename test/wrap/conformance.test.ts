/** What a program sees of its sockets under wrap is what it sees natively. */
import { expect } from "bun:test";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { requires } from "../helpers/requires.ts";
import { RUNTIMES } from "../helpers/runtimes.ts";
import { compileFixture, Stage } from "../helpers/wrapped.ts";

expectNoFdLeaks();
const cc = requires.program("cc", "gcc");

for (const runtime of RUNTIMES) {
  for (const family of ["4", "6"]) {
    requires.test(
      [cc],
      `addresses, options, flags and errors of an IPv${family} program are TCP's, on ${runtime.name}`,
      async () => {
        await using stage = new Stage();
        const program = compileFixture("tcp-shape");
        const native = stage.plain([program, family]);
        await native.exit;
        const wrapped = stage.wrap([program, family], { runtime, flags: ["--log"] });
        expect(await wrapped.exit).toBe(0);
        expect(wrapped.output).toContain("wrap info: Handed off tcp:");
        const said = wrapped.output.split("\n").filter((line) => !line.startsWith("wrap info: "));
        expect(said).toEqual(native.output.split("\n"));
      },
      60_000,
    );
  }
}

/** close_range(2) over the numbers of sockets: nobody tells the supervisor, and it looks at no number. */
import { expect } from "bun:test";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { requires } from "../helpers/requires.ts";
import { compileFixture, Stage } from "../helpers/wrapped.ts";

expectNoFdLeaks();

requires.test(
  [requires.program("cc", "gcc")],
  "sockets whose numbers close_range() closes or marks end when TCP's would, and not with a child's copy",
  async () => {
    await using stage = new Stage();
    const program = [compileFixture("close-range")];
    const native = stage.plain(program);
    expect(await native.exit, native.output).toBe(0);
    expect(native.output).toContain("after the child's: connected");
    expect(native.output.match(/: ECONNREFUSED/g)).toHaveLength(3);
    const wrapped = stage.wrap(program);
    expect(await wrapped.exit).toBe(0);
    expect(wrapped.output).toBe(native.output);
    expect(stage.registry.fallbacks()).toEqual([]);
  },
);

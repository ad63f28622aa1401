/** Connections of which the supervisor knows the way by heart (lib/wrap/shortcut.ts), and others among them. */
import { expect } from "bun:test";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { requires } from "../helpers/requires.ts";
import { compileFixture, Stage } from "../helpers/wrapped.ts";

expectNoFdLeaks();

requires.test(
  [requires.program("cc", "gcc")],
  "among many plain connections, those with options, flags, duplicates, epoll sets, bad addresses and signals are served as themselves",
  async () => {
    await using stage = new Stage();
    const argv = [compileFixture("after-plain"), "20"];
    const native = stage.plain(argv);
    expect(await native.exit).toBe(0);
    const wrapped = stage.wrap(argv);
    expect(await wrapped.exit, wrapped.output).toBe(0);
    expect(wrapped.output).toBe(native.output);
    const reasons = stage.registry.fallbacks().map((line) => line.split(" ").slice(2).join(" "));
    expect(reasons.filter((reason) => reason !== "a signal interrupted connect()")).toEqual([]);
  },
  60_000,
);

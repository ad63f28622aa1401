import { expect, test } from "bun:test";
import { Life, startTimeOf } from "../../../../lib/broker/survival/life.ts";
import { Reactor } from "../../../../lib/transport/reactor.ts";
import { expectNoFdLeaks } from "../../../helpers/fd-leak.ts";

expectNoFdLeaks();

test("watch() calls once when the process ends, and not at all when it was given up", async () => {
  const child = Bun.spawn(["sleep", "1000"]);
  const started = startTimeOf(child.pid);
  using reactor = new Reactor();
  using life = new Life(reactor);
  const ended: string[] = [];
  expect(life.watch(child.pid, started, () => ended.push("kept"))).toBeFunction();
  const cancel = life.watch(child.pid, started, () => ended.push("given up"));
  cancel?.();
  child.kill("SIGKILL");
  while (ended.length === 0) reactor.runOnce(10_000);
  expect(ended).toEqual(["kept"]);
  await child.exited;
  expect(life.watch(child.pid, started, () => undefined)).toBeUndefined();
});

test("a process that began at another moment is another one", () => {
  using reactor = new Reactor();
  using life = new Life(reactor);
  expect(life.watch(process.pid, "1", () => undefined)).toBeUndefined();
  expect(life.watch(process.pid, "", () => undefined)).toBeUndefined();
  expect(life.watch(0, "1", () => undefined)).toBeUndefined();
});

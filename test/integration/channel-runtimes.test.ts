/** What only a runtime can get wrong: views after close(), small arrays through its FFI, what it takes for bytes, its own
 *  streams. */
import { beforeAll, describe, expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { buildForNode, ROOT, RUNTIMES, type Runtime } from "../helpers/runtimes.ts";

beforeAll(buildForNode, 180_000);

function run({ command }: Runtime, program: string): unknown {
  const [file = "", ...args] = command(`test/fixtures/channel/${program}.ts`);
  return JSON.parse(execFileSync(file, args, { cwd: ROOT, encoding: "utf8" }));
}

describe.each([...RUNTIMES])("on $name", (runtime) => {
  test("a view leads nowhere after close(), under a storm of garbage, and small arrays stay what they are", () => {
    const found = { views: 300, notEmpty: 0, leaked: 0, silent: 0, open: 0, smallArraysWrong: 0 };
    expect(run(runtime, "closed-views")).toEqual(found);
  }, 120_000);

  test("a channel that ends under the runtime's own threads leaves them zeroes, and its addresses come back", () => {
    const found = { unfinished: 0, broken: 2, mapped: 0, leaked: 0, notEmpty: 0, givenBack: true };
    expect(run(runtime, "shown-views")).toEqual({ jobs: runtime.name === "node" ? 8 : 4, ...found });
  }, 120_000);

  test("every public member throws the reason after the end, and none is left out", () => {
    const found = run(runtime, "closed-uses") as { readonly uses: number; readonly wrong: unknown };
    expect(found).toEqual({ uses: expect.any(Number), wrong: [] });
    expect(found.uses).toBeGreaterThan(13 * 50);
  }, 120_000);

  test("what is no bytes, or no number of them, is refused by every call before anything has changed", () => {
    expect(run(runtime, "wrong-bytes")).toEqual({ cases: 1368, faults: [] });
  }, 120_000);

  test("Node's streams carry bytes there and back over a channel", () => {
    expect(run(runtime, "node-streams")).toEqual({ bytes: 3_000_000, same: true, ended: "finished" });
  }, 120_000);

  test("a stream to a peer that does not read is given up at once, and the peer is told", () => {
    const told = [true, "hangup"];
    expect(run(runtime, "aborted-streams")).toEqual({ abort: told, destroy: told, pipeline: told });
  }, 120_000);
});

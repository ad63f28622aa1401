/** Who may call the machine code of a ring, and what is left of it afterwards. */
import { describe, expect, test } from "bun:test";
import { RecordPath } from "../../ffi/mod.ts";

const RING_BYTES = 8192 + 4096;
const REFUSED = -1;
const UNUSUAL = -4;
const [OUT_LIMIT, OUT_CAPACITY, OUT_MAX_PAYLOAD] = [2, 5, 6];

const isThere = process.arch === "x64";

function openPath(): RecordPath {
  const path = RecordPath.open(new Uint8Array(RING_BYTES), new Uint8Array(RING_BYTES));
  if (path === undefined) throw new Error("Cannot test machine code: the system does not allow it");
  return path;
}

describe.skipIf(!isThere)("the machine code of a ring", () => {
  test("refuses everything after close(), also when another end has its place", () => {
    const path = openPath();
    path.close();
    path.close();
    const next = openPath();
    next.state[OUT_CAPACITY] = 4096;
    next.state[OUT_MAX_PAYLOAD] = 2040;
    next.state[OUT_LIMIT] = 4096;
    next.lend("buffer", new Uint8Array(8));
    expect([path.send(8, 0), path.receive(8, 1), path.putPacked(8, 0, 4, 0), path.takePacked(8, 4)]).toEqual([
      REFUSED,
      UNUSUAL,
      0,
      0,
    ]);
    expect(next.state[0]).toBe(0); // its tail
    expect(next.send(8, 0)).toBe(0);
    expect(next.state[0]).toBe(16);
    next.close();
  });

  test("is there for thousands of ends, not for more, and again when some are closed", () => {
    const own = new Uint8Array(RING_BYTES);
    const paths: RecordPath[] = [];
    for (let path = RecordPath.open(own, own); path !== undefined && paths.length < 20_000; ) {
      paths.push(path);
      path = RecordPath.open(own, own);
    }
    expect(paths.length).toBeGreaterThan(4000);
    expect(paths.length).toBeLessThan(20_000);
    expect(RecordPath.open(own, own)).toBeUndefined();
    paths.pop()?.close();
    const again = openPath();
    expect([...again.state]).toEqual(Array(again.state.length).fill(0));
    for (const path of [...paths, again]) path.close();
  });
});

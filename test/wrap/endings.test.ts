/** How connections and listeners end, where a program can tell that they are Unix sockets, is as documented. */
import { expect } from "bun:test";
import { join } from "node:path";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { requires } from "../helpers/requires.ts";
import { ROOT } from "../helpers/runtimes.ts";
import { compileFixture, type Running, Stage } from "../helpers/wrapped.ts";

expectNoFdLeaks();
const LIMIT_MS = 60_000;

async function compare(argv: readonly string[]): Promise<readonly [native: string[], wrapped: string[]]> {
  await using stage = new Stage();
  const tell = async (running: Running): Promise<string[]> => {
    expect(await running.exit, running.output).toBe(0);
    return running.output.trim().split("\n");
  };
  return [await tell(stage.plain(argv)), await tell(stage.wrap(argv))];
}

requires.test(
  [requires.program("python3", "python3")],
  "a peer that ends a connection is a hang-up at once, and it has a name still",
  async () => {
    const [native, wrapped] = await compare(["python3", join(ROOT, "test/fixtures/programs/endings.py")]);
    expect(native).toEqual([
      "closed its half: in out rdhup",
      "closed both halves: in out rdhup",
      "closed: in out rdhup",
      "closed after it sent: in out rdhup",
      "closed without reading: in out err hup rdhup",
      "read then: ECONNRESET",
      "closed and lingers not: in out err hup rdhup",
      "shutdown then: ENOTCONN",
      "name of the peer then: ENOTCONN",
      "write to who reads no more: done",
      "a listener that was shut down: out hup",
    ]);
    expect(wrapped).toEqual([
      "closed its half: in out rdhup",
      "closed both halves: in out hup rdhup",
      "closed: in out hup rdhup",
      "closed after it sent: in out hup rdhup",
      "closed without reading: in out err hup rdhup",
      "read then: ECONNRESET",
      "closed and lingers not: in out hup rdhup",
      "shutdown then: done",
      "name of the peer then: done",
      "write to who reads no more: EPIPE",
      "a listener that was shut down: in rdhup",
    ]);
  },
  LIMIT_MS,
);

requires.test(
  [requires.program("cc", "gcc")],
  "accept() ends when its listener is closed, which TCP keeps open for it",
  async () => {
    const [native, wrapped] = await compare([compileFixture("tcp-edges"), "closed-under-accept"]);
    expect(native.slice(3)).toEqual(["bind: -1 EADDRINUSE", "connect: 0 ", "accept: done"]);
    expect(wrapped.slice(3)).toEqual(["bind: 0 ", "connect: -1 ECONNREFUSED", "accept: EBADF"]);
  },
  LIMIT_MS,
);

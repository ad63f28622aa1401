/** What a program can do to its supervisor: that one goes on, and the program sees what it sees natively. */
import { expect } from "bun:test";
import { Cli } from "../cli/fixture.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { requires } from "../helpers/requires.ts";
import { BUN } from "../helpers/runtimes.ts";
import { compileFixture, Stage } from "../helpers/wrapped.ts";

expectNoFdLeaks();

/** `only`: arguments for the wrapped program alone. */
const CASES: Readonly<Record<string, { readonly title: string; readonly only?: readonly string[] }>> = {
  "beyond-limit": { title: "a duplicate beyond the limit of open files does not keep connect() from its own number" },
  families: { title: "an address of another family than the socket's is refused" },
  namespace: { title: "who leaves the network namespace is not connected to who listens in the old one" },
  "reused-id": { title: "a process that gets the id of another has epoll sets of its own" },
  "thread-id": { title: "a process that gets the id of a thread of another has descriptors of its own" },
  scarce: { title: "a supervisor without descriptors leaves connections to TCP, and loses none", only: ["supervised"] },
};

for (const [name, { title, only = [] }] of Object.entries(CASES)) {
  requires.test(
    [requires.program("cc", "gcc")],
    title,
    async () => {
      await using stage = new Stage();
      const argv = [compileFixture("tcp-hard"), name];
      const native = stage.plain(argv);
      expect(await native.exit, native.output).toBe(0);
      const wrapped = stage.wrap([...argv, ...only]);
      expect(await wrapped.exit, wrapped.output).toBe(0);
      const isOurs = (line: string): boolean => line.startsWith("wrap warn: ");
      const lines = wrapped.output.split("\n").filter((line) => !isOurs(line));
      expect(lines.join("\n")).toBe(native.output);
    },
    60_000,
  );
}

requires.test(
  [requires.program("cc", "gcc")],
  "--explain counts connections whose socket has other descriptors too",
  async () => {
    await using cli = new Cli(BUN);
    const { code, stderr } = await cli.run(["wrap", "--explain", "--", compileFixture("tcp-hard"), "beyond-limit"]);
    expect(code, stderr).toBe(0);
    expect(stderr).toMatch(/connect +127\.0\.0\.1:\d+ +20 +to \/\S+\.tcp/);
  },
  60_000,
);

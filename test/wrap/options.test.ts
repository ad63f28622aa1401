/** Options at SOL_SOCKET across connect(), listen() and accept(): a program sees the same natively and under wrap. */
import { expect } from "bun:test";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { type Requirement, requires } from "../helpers/requires.ts";
import { ROOT } from "../helpers/runtimes.ts";
import { Stage } from "../helpers/wrapped.ts";

expectNoFdLeaks();

/** The folder may have a file among them (bonding_masters). */
const interfaces = readdirSync("/sys/class/net").filter((name) => existsSync(`/sys/class/net/${name}/ifindex`));
const otherInterface = interfaces.find((name) => name !== "lo");

type Case = {
  readonly title: string;
  readonly args: readonly string[];
  readonly needs?: Requirement;
  readonly fallbacks?: readonly RegExp[];
};

const CASES: readonly Case[] = [
  { args: ["carried"], title: "what was set before connect() is so afterwards, and on no other connection" },
  { args: ["carried_tcp"], title: "what only TCP has and few programs set before connect() is so afterwards" },
  { args: ["inherited"], title: "connections have what was set on their listener, but for the priority" },
  { args: ["inherited_later"], title: "connections have what was set on their listener after listen()" },
  { args: ["connected"], title: "what only TCP has is of a connection, and set where a connection may set it" },
  {
    args: ["interface", otherInterface ?? ""],
    title: "who is bound to an interface other than loopback's is not connected over it",
    needs: requires.feature(otherInterface !== undefined, "this machine has no network interface but loopback's"),
    fallbacks: [/^127\.0\.0\.1 \d+ it is bound to another network interface$/],
  },
];

for (const { title, args, needs, fallbacks = [] } of CASES) {
  requires.test(
    [requires.program("python3", "python3"), ...(needs === undefined ? [] : [needs])],
    title,
    async () => {
      await using stage = new Stage();
      const program = ["python3", join(ROOT, "test/fixtures/programs/options.py"), ...args];
      const [native, wrapped] = [stage.plain(program), stage.wrap(program)];
      expect([await native.exit, await wrapped.exit], native.output + wrapped.output).toEqual([0, 0]);
      const lines = wrapped.output.split("\n").filter((line) => !line.startsWith("wrap warn: "));
      expect(lines.join("\n")).toBe(native.output);
      const reasons = stage.registry.fallbacks();
      expect(reasons).toHaveLength(fallbacks.length);
      for (const [index, reason] of fallbacks.entries()) expect(reasons[index]).toMatch(reason);
    },
    60_000,
  );
}

const SERVER = `
import socket
listener = socket.create_server(("127.0.0.1", 0))
listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
print("port", listener.getsockname()[1], flush=True)
print([listener.accept()[0].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) for _ in range(3)])
`;
const CLIENT = `
import socket, sys
clients = [socket.create_connection(("127.0.0.1", int(sys.argv[1]))) for _ in range(3)]
for client in clients: client.recv(1)
`;

requires.test(
  [requires.program("python3", "python3")],
  "connections of plain TCP clients have what was set on their listener after listen()",
  async () => {
    await using stage = new Stage();
    const server = stage.wrap(["python3", "-c", SERVER]);
    const client = stage.plain(["python3", "-c", CLIENT, await server.match(/port (\d+)/)]);
    expect([await server.exit, await client.exit], server.output + client.output).toEqual([0, 0]);
    expect(server.output).toEndWith("[1, 1, 1]\n");
  },
  60_000,
);

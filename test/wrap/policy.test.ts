/** What the broker's policy says of wrapped listeners: who may register one, and who may reach it. */
import { expect } from "bun:test";
import { writeFileSync } from "node:fs";
import { TestBroker, waitUntil } from "../helpers/broker.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { requires } from "../helpers/requires.ts";
import { Staying } from "../helpers/staying.ts";
import { freePort } from "../helpers/wrapped.ts";

expectNoFdLeaks();

const SERVE = `
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("listening", flush=True)
accepted, _ = listener.accept()
accepted.sendall(b"hello")
`;

/** Greets two, and then sends back what the first one says. */
const SERVE_TWO = `
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
first, _ = listener.accept()
first.sendall(b"hello")
second, _ = listener.accept()
second.sendall(b"hello")
first.sendall(first.recv(100))
`;

const TALK = `
import socket, sys
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
print(connection.recv(100).decode(), flush=True)
connection.sendall(sys.stdin.readline().encode())
print(connection.recv(100).decode(), end="")
`;

const DIAL = `
import socket, sys
print(socket.create_connection(("127.0.0.1", int(sys.argv[1]))).recv(100).decode())
`;

for (const action of ["register", "resolve"] as const) {
  requires.test(
    [requires.program("python3", "python3")],
    `who may not ${action} a wrapped listener uses plain TCP`,
    async () => {
      await using broker = new TestBroker();
      const port = freePort();
      writeFileSync(broker.configPath, `[[deny]]\nname = "not-these"\naction = "${action}"\nservice = "tcp:*"\n`);
      await using server = new Staying(broker, "wrap", "--explain", "--", "python3", "-c", SERVE, String(port));
      await waitUntil(() => server.stdout === "listening\n", "the server");
      await using client = new Staying(broker, "wrap", "--explain", "--", "python3", "-c", DIAL, String(port));
      await waitUntil(() => client.closed && server.closed, "both to end");
      expect([client.stdout, client.child.exitCode, server.child.exitCode]).toEqual(["hello\n", 0, 0]);
      expect(client.stderr).toMatch(/connect +127\.0\.0\.1:\d+ +1 +over plain TCP/);
      const isHandedOff = /listen +127\.0\.0\.1:\d+ +1 +to \//.test(server.stderr);
      expect(isHandedOff, server.stderr).toBe(action === "resolve");
      if (action === "register") expect(server.stderr).toContain("not-these"); // who may not resolve is not told what there is
    },
    60_000,
  );
}

requires.test(
  [requires.program("python3", "python3")],
  "a listener whose right is revoked is not listed any more: its connections go on, and who comes then uses plain TCP",
  async () => {
    await using broker = new TestBroker();
    const port = freePort();
    using link = broker.connect();
    using minted = link.mint([{ rights: ["listen"], name: "tcp:*" }]);
    const isListed = (): boolean => link.list().some(({ kind }) => kind === "listener");
    await using server = Staying.on(minted.fd, broker, "wrap", "--", "python3", "-c", SERVE_TWO, String(port));
    await waitUntil(isListed, "the listener");
    await using first = new Staying(broker, "wrap", "--explain", "--", "python3", "-c", TALK, String(port));
    await waitUntil(() => first.stdout === "hello\n", "a connection before");
    minted.revoke();
    expect(isListed()).toBe(false);
    await waitUntil(() => /Revoked listen[a-z,]*:tcp:\*/.test(broker.log), "the audit");
    const said = `Wrapped clients do not find tcp:127.0.0.1:${port} any longer: Cannot listen as "tcp:127.0.0.1:${port}" any longer`;
    await waitUntil(() => server.stderr.includes(said), "the supervisor to say so");
    await using second = new Staying(broker, "wrap", "--explain", "--", "python3", "-c", DIAL, String(port));
    await waitUntil(() => second.closed, "a connection afterwards");
    first.child.stdin?.end("goes on\n");
    await waitUntil(() => first.closed && server.closed, "all to end");
    expect([first.stdout, second.stdout]).toEqual(["hello\ngoes on\n", "hello\n"]);
    expect(first.stderr).toMatch(/connect +127\.0\.0\.1:\d+ +1 +to \//);
    expect(second.stderr).toMatch(/connect +127\.0\.0\.1:\d+ +1 +over plain TCP/);
    expect([first, second, server].map(({ child }) => child.exitCode)).toEqual([0, 0, 0]);
  },
  60_000,
);

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

/** Socket files that their mode shuts to the supervisor: live listeners behind them are neither taken over nor given up. */
import { expect } from "bun:test";
import { chmodSync, lstatSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { requires } from "../helpers/requires.ts";
import { freePort, type Running, Stage } from "../helpers/wrapped.ts";

expectNoFdLeaks();
const needs = [requires.program("python3", "python3"), requires.program("setpriv", "util-linux")];

/** root opens everything. */
const POWERLESS = process.geteuid?.() === 0 ? ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] : [];

/** Answers each connection; "poll" waits for them by poll(2). */
const SERVER = `
import select, socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
waiting = select.poll()
waiting.register(listener, select.POLLIN)
print("listening", flush=True)
while True:
    if sys.argv[2] == "poll": waiting.poll()
    listener.accept()[0].sendall(b"hello")
`;
const DIAL = `
import socket, sys
print(socket.create_connection(("127.0.0.1", int(sys.argv[1])), 20).recv(10).decode())
`;

function serve(stage: Stage, port: number, rule: string, way: "block" | "poll"): Running {
  const argv = ["python3", "-c", SERVER, String(port), way];
  return stage.plain([...POWERLESS, ...stage.wrapCommand(argv, { flags: ["--log", `--rule=${rule}`] })]);
}

async function expectHello(client: Running): Promise<void> {
  expect(await client.exit, client.output).toBe(0);
  expect(client.output).toBe("hello\n");
}

requires.test(
  needs,
  "a live listener that we may not connect to keeps its path, and ours stays on TCP",
  async () => {
    await using stage = new Stage();
    const [port, path] = [freePort(), join(stage.path, "others")];
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(path, resolve));
    try {
      chmodSync(path, 0);
      const { ino } = lstatSync(path);
      const server = serve(stage, port, `in,path=${path}`, "block");
      await server.match(/listening/);
      expect(server.output).toMatch(/Left tcp:127\.0\.0\.1:\d+ to plain TCP: .*EADDRINUSE/);
      await expectHello(stage.plain(["python3", "-c", DIAL, String(port)]));
      server.child.kill();
      await server.exit;
      expect(lstatSync(path)).toMatchObject({ ino });
    } finally {
      await new Promise((resolve) => other.close(resolve));
    }
  },
  30_000,
);

for (const way of ["block", "poll"] as const) {
  requires.test(
    needs,
    `a listener whose socket file is shut stays, and serves plain TCP clients ${way === "poll" ? "once it is opened, where it waits by poll()" : "where it waits in accept()"}`,
    async () => {
      await using stage = new Stage();
      const [port, path] = [freePort(), join(stage.path, "ours")];
      const server = serve(stage, port, `in,path=${path},mode=0`, way);
      await server.match(/listening/);
      const first = stage.plain(["python3", "-c", DIAL, String(port)]);
      await server.match(/Cannot connect to the socket of tcp:127\.0\.0\.1:\d+: plain TCP clients wait/);
      if (way === "poll") {
        expect(first.output).toBe("");
        chmodSync(path, 0o600);
      }
      await expectHello(first);
      await expectHello(stage.plain(["python3", "-c", DIAL, String(port)]));
      expect(server.output.match(/Cannot connect/g)).toHaveLength(1);
      expect(stage.registry.entries().map((entry) => entry.port)).toEqual([port]);
    },
    30_000,
  );
}

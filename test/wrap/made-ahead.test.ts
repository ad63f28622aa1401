/** Sockets that are made before they are needed (lib/wrap/shortcut/stock.ts). */
import { expect } from "bun:test";
import { availableParallelism } from "node:os";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { unusedNames } from "../helpers/made-ahead.ts";
import { requires } from "../helpers/requires.ts";
import { Stage, until } from "../helpers/wrapped.ts";

expectNoFdLeaks();

const hasMaker = requires.feature(
  process.arch === "x64" && availableParallelism() > 1,
  "only on x86-64, two processors",
);

const SERVER = `
import socket, threading
def serve(listener):
    while True:
        peer, address = listener.accept()
        peer.sendall(str(address[1]).encode())
        peer.close()
for name in ["first", "second"]:
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    print(name, listener.getsockname()[1], flush=True)
    threading.Thread(target=serve, args=(listener,)).start()
`;
const DIAL = `
import select, socket, sys, time
def dial(port):
    s = socket.create_connection(("127.0.0.1", int(port)))
    own, text = s.getsockname()[1], b""
    while part := s.recv(64): text += part
    if int(text) != own: sys.exit(f"{own} is {text}")
    s.close()
`;
const UNTIL_TOLD = `${DIAL}
while not select.select([sys.stdin], [], [], 0)[0]: dial(sys.argv[1])
print("idle", flush=True)
time.sleep(600)
`;
const TO_BOTH = `${DIAL}
first, second = sys.argv[1:]
for port in [first] * 300 + [second] * 300 + [first, second] * 150 + [first] * 300: dial(port)
print("all right")
`;

requires.test(
  [hasMaker, requires.program("python3", "python3")],
  "while connections come in numbers there are sockets for the next ones, and none when they come no more",
  async () => {
    await using stage = new Stage();
    const port = await stage.wrap(["python3", "-c", SERVER]).match(/first (\d+)/);
    const client = stage.wrap(["python3", "-c", UNTIL_TOLD, port], { input: true });
    await until("sockets that are not connected", () => unusedNames(port).length > 1);
    client.child.stdin?.end();
    await client.match(/idle/);
    await until("them to be gone", () => unusedNames(port).length === 0);
  },
  60_000,
);

requires.test(
  [requires.program("python3", "python3")],
  "connections to one server, then to another, and to both in turn, each get their own",
  async () => {
    await using stage = new Stage();
    const server = stage.wrap(["python3", "-c", SERVER]);
    const ports = [await server.match(/first (\d+)/), await server.match(/second (\d+)/)];
    const client = stage.wrap(["python3", "-c", TO_BOTH, ...ports]);
    expect(await client.exit, client.output).toBe(0);
    expect(client.output).toContain("all right");
    expect(stage.registry.fallbacks()).toEqual([]);
  },
  60_000,
);

/** Connections of which the supervisor knows the way by heart (lib/wrap/shortcut/shortcut.ts), and others among them. */
import { expect } from "bun:test";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { requires } from "../helpers/requires.ts";
import { compileFixture, freePort, Stage } from "../helpers/wrapped.ts";

expectNoFdLeaks();

const SERVER = `
import socket, threading
listener = socket.create_server(("127.0.0.1", 0), backlog=64)
print("port", listener.getsockname()[1], flush=True)
def serve():
    while True:
        peer, address = listener.accept()
        if address != peer.getpeername(): address = ("differs", 0)
        peer.sendall(str(address[1]).encode())
        peer.close()
for _ in range(3): threading.Thread(target=serve).start()
`;
const CLIENT = `
import socket, sys
for i in range(int(sys.argv[2])):
    s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    own = s.getsockname()[1]
    text = b""
    while part := s.recv(64): text += part
    if int(text) != own: sys.exit(f"{own} is {text}")
    s.close()
print("all right")
`;

requires.test(
  [requires.program("python3", "python3")],
  "connections of wrapped and of plain TCP clients, mixed, each get their own, from threads that accept at once",
  async () => {
    await using stage = new Stage();
    const server = stage.wrap(["python3", "-c", SERVER]);
    const port = await server.match(/port (\d+)/);
    const argv = ["python3", "-c", CLIENT, port, "300"];
    const clients = [stage.wrap(argv), stage.plain(argv), stage.wrap(argv), stage.plain(argv)];
    for (const client of clients) {
      expect(await client.exit, client.output).toBe(0);
      expect(client.output).toContain("all right");
    }
    expect(stage.registry.fallbacks()).toEqual([]);
  },
  60_000,
);

requires.test(
  [requires.program("cc", "gcc")],
  "among many plain connections, those with options, flags, duplicates, epoll sets, bad addresses and signals are served as themselves",
  async () => {
    await using stage = new Stage();
    const argv = [compileFixture("after-plain"), "20"];
    const native = stage.plain(argv);
    expect(await native.exit).toBe(0);
    const wrapped = stage.wrap(argv);
    expect(await wrapped.exit, wrapped.output).toBe(0);
    expect(wrapped.output).toBe(native.output);
    const reasons = stage.registry.fallbacks().map((line) => line.split(" ").slice(2).join(" "));
    expect(reasons.filter((reason) => reason !== "a signal interrupted connect()")).toEqual([]);
  },
  60_000,
);

const ONE_AFTER_THE_OTHER = `
import os, socket, subprocess, sys
def serve(name, port):
    code = "import socket, sys\\nl = socket.create_server((sys.argv[2], int(sys.argv[3])))\\nprint('up', flush=True)\\nwhile True:\\n  p = l.accept()[0]; p.sendall(sys.argv[1].encode()); p.close()"
    process = subprocess.Popen([sys.executable, "-c", code, name, "127.0.0.1", str(port)], stdout=subprocess.PIPE)
    process.stdout.readline()
    return process
port = int(sys.argv[1])
for name in ["first", "second", "third"]:
    server = serve(name, port)
    for _ in range(400):
        with socket.create_connection(("127.0.0.1", port)) as s:
            seen = s.recv(64).decode()
            if seen != name: sys.exit(f"{seen} is not {name}")
    server.kill()
    server.wait()
    try:
        socket.create_connection(("127.0.0.1", port)).close()
        sys.exit("somebody is there")
    except ConnectionRefusedError: pass
print("all right")
`;

requires.test(
  [requires.program("python3", "python3")],
  "a stream of connections that outlasts what is taken for granted reaches who listens there now, and nobody when nobody does",
  async () => {
    await using stage = new Stage();
    const running = stage.wrap(["python3", "-c", ONE_AFTER_THE_OTHER, String(freePort())]);
    expect(await running.exit, running.output).toBe(0);
    expect(running.output).toContain("all right");
    expect(stage.registry.fallbacks()).toEqual([]);
  },
  60_000,
);

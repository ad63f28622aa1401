/** Which ports clients have (lib/wrap/route.ts). */
import { expect } from "bun:test";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { requires } from "../helpers/requires.ts";
import { Stage } from "../helpers/wrapped.ts";

expectNoFdLeaks();

const SERVER = `
import socket
listener = socket.create_server(("127.0.0.1", 0), backlog=64)
print("port", listener.getsockname()[1], flush=True)
while True: listener.accept()[0].close()
`;
const CLIENT = `
import socket, sys
low, high = map(int, open("/proc/sys/net/ipv4/ip_local_port_range").read().split())
server, seen = int(sys.argv[1]), set()
for _ in range(20 if sys.argv[2] == "few" else (high - low) // 2 + 20):
    s = socket.create_connection(("127.0.0.1", server))
    seen.add(s.getsockname()[1])
    s.recv(1)
    s.close()
print("server's own" if server in seen else "others", sorted({(port - low) % 2 for port in seen}))
`;

requires.test(
  [requires.program("python3", "python3")],
  "a connection that is handed off has a port that no client over TCP has, and not the server's own",
  async () => {
    await using stage = new Stage();
    const port = await stage.wrap(["python3", "-c", SERVER]).match(/port (\d+)/);
    const plain = stage.plain(["python3", "-c", CLIENT, port, "few"]);
    expect(await plain.exit, plain.output).toBe(0);
    const wrapped = stage.wrap(["python3", "-c", CLIENT, port, "all"]);
    expect(await wrapped.exit, wrapped.output).toBe(0);
    expect([plain.output, wrapped.output]).toEqual(["others [0]\n", "others [1]\n"]);
    expect(stage.registry.fallbacks()).toEqual([]);
  },
  60_000,
);

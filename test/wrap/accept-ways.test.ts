/** However a server waits for connections, it gets those from TCP and those from wrapped clients, each with its address. */
import { expect } from "bun:test";
import { join } from "node:path";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { requires } from "../helpers/requires.ts";
import { ROOT } from "../helpers/runtimes.ts";
import { compileFixture, Stage } from "../helpers/wrapped.ts";

expectNoFdLeaks();
const needs = [requires.program("cc", "gcc"), requires.program("python3", "python3")];
const CLIENTS = join(ROOT, "test/fixtures/programs/tcp-clients.py");
const EACH = 12;

const WAYS = ["blocking", "nonblocking", "poll", "select", "epoll", "threads", "fork", "signals", "timeout", "unbound"];

function peers(output: string): string[] {
  return output
    .split("\n")
    .filter((line) => line.startsWith("peer "))
    .sort();
}

for (const way of WAYS) {
  requires.test(
    needs,
    `a server that accepts by "${way}" gets every connection of both kinds`,
    async () => {
      await using stage = new Stage();
      const server = stage.wrap([compileFixture("accept-ways"), way, String(EACH * 2)]);
      const port = await server.match(/port (\d+)/);
      if (way === "timeout") await server.match(/timed out/); // with nobody there yet
      const tcp = stage.plain(["python3", CLIENTS, port, String(EACH)]);
      const unix = stage.wrap(["python3", CLIENTS, port, String(EACH)]);
      expect(await Promise.all([tcp.exit, unix.exit]), tcp.output + unix.output).toEqual([0, 0]);
      expect(await server.exit).toBe(0);
      expect(peers(server.output)).toEqual(peers(tcp.output + unix.output));
    },
    60_000,
  );
}

/** Connects to itself again and again while signals hit the supervisor, and says what accept() gave that was no connection. */
const SIGNALLED = `
import os, signal, socket, threading, time
supervisor = os.getppid()
signal.signal(signal.SIGWINCH, lambda *_: None)
listener = socket.create_server(("127.0.0.1", 0), backlog=512)
odd, count, over = [], [0], threading.Event()
def serve():
    while True:
        number, peer = listener._accept()
        try: accepted = socket.socket(listener.family, listener.type, listener.proto, fileno=number)
        except OSError: odd.append(number); continue
        accepted.sendall(b"%5d" % peer[1])
        accepted.close()
def dial():
    while not over.is_set():
        with socket.create_connection(listener.getsockname(), 20) as own:
            if int(own.recv(5) or 0) != own.getsockname()[1]: odd.append(own.getsockname())
            count[0] += 1
for _ in range(2): threading.Thread(target=serve, daemon=True).start()
clients = [threading.Thread(target=dial) for _ in range(2)]
for client in clients: client.start()
end = time.time() + 3
while time.time() < end or count[0] <= 100:
    os.kill(supervisor, signal.SIGWINCH)
    time.sleep(0.001)
over.set()
for client in clients: client.join()
print("odd:", odd, flush=True)
os._exit(0)
`;

requires.test(
  needs,
  "a signal to the supervisor leaves the answer of accept() as it is",
  async () => {
    await using stage = new Stage();
    const program = stage.wrap(["python3", "-c", SIGNALLED]);
    expect(await program.exit, program.output).toBe(0);
    expect(program.output).toBe("odd: []\n");
  },
  60_000,
);

/** A Unix socket whose backlog is full says EAGAIN at once, where TCP would send its SYN again: no program sees that. */
import { expect } from "bun:test";
import { join } from "node:path";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { requires } from "../helpers/requires.ts";
import { freePort, type Running, Stage } from "../helpers/wrapped.ts";

expectNoFdLeaks();
const python = requires.program("python3", "python3");

/** Listens at a path, where one connection of its own fills the queue until SIGUSR1 comes, and on TCP. */
const SERVER = `
import select, signal, socket, sys
unix = socket.socket(socket.AF_UNIX)
unix.bind(sys.argv[1])
unix.listen(0)
own = socket.socket(socket.AF_UNIX)
own.connect(sys.argv[1])
tcp = socket.create_server(("127.0.0.1", int(sys.argv[2])))
waiting = [tcp]
wake, woken = socket.socketpair()
wake.setblocking(False)
signal.set_wakeup_fd(wake.fileno())
signal.signal(signal.SIGUSR1, lambda *_: None)
print("ready", flush=True)
kept = []
while True:
    for each in select.select([woken, *waiting], [], [])[0]:
        if each is woken:
            woken.recv(1)
            waiting = [tcp, unix]
            continue
        connection = each.accept()[0]
        kept.append(connection)
        try: connection.sendall(b"unix" if each is unix else b"tcp")
        except OSError: pass
`;

const CLIENT = `
import select, socket, sys
client = socket.socket()
client.setblocking(sys.argv[2] == "blocking")
print("connecting", flush=True)
error = client.connect_ex(("127.0.0.1", int(sys.argv[1])))
select.select([], [client], [])
client.setblocking(True)
print("by", client.recv(10).decode(), "error", client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
`;

/** Takes the number away from a connect() that waits. */
const THIEF = `
import os, socket, sys, threading, time
client, file = socket.socket(), os.open("/dev/null", os.O_RDWR)
number = client.fileno()
waiter = threading.Thread(target=lambda: client.connect_ex(("127.0.0.1", int(sys.argv[1]))))
waiter.start()
time.sleep(0.3)
if sys.argv[2] == "file": os.dup2(file, number)
else: os.close(number)
print("connecting", flush=True)
waiter.join()
try: print("the number is", os.readlink(f"/proc/self/fd/{number}"))
except OSError: print("the number is closed")
client.detach()
`;

type Scene = { readonly stage: Stage; readonly server: Running; readonly client: Running; readonly port: number };

async function begin(stage: Stage, way: string, program: string = CLIENT): Promise<Scene> {
  const [path, port] = [join(stage.path, "unix"), freePort()];
  const server = stage.plain(["python3", "-u", "-c", SERVER, path, String(port)]);
  await server.match(/ready/);
  const flags = [`--rule=out,port=${port},path=${path}`];
  const client = stage.wrap(["python3", "-u", "-c", program, String(port), way], { flags });
  await client.match(/connecting/);
  return { stage, server, client, port };
}

for (const way of ["blocking", "non-blocking"]) {
  requires.test(
    [python],
    `a ${way} connect() to a backlog that stays full goes over TCP, with the reason`,
    async () => {
      await using stage = new Stage();
      const { client, port } = await begin(stage, way);
      expect(await client.exit).toBe(0);
      expect(client.output).toBe("connecting\nby tcp error 0\n");
      expect(stage.registry.fallbacks()).toEqual([
        expect.stringMatching(new RegExp(`^127.0.0.1 ${port} .*\\(EAGAIN\\)$`)),
      ]);
    },
    30_000,
  );
}

requires.test(
  [python],
  "a connect() to a backlog that is full for a moment waits for it",
  async () => {
    await using stage = new Stage();
    const { server, client } = await begin(stage, "blocking");
    server.child.kill("SIGUSR1");
    expect(await client.exit).toBe(0);
    expect(client.output).toBe("connecting\nby unix error 0\n");
    expect(stage.registry.fallbacks()).toEqual([]);
  },
  30_000,
);

for (const [way, found] of [
  ["file", "/dev/null"],
  ["nothing", "closed"],
] as const) {
  requires.test(
    [python],
    `a number that became ${way} while its connect() waited is left as it is`,
    async () => {
      await using stage = new Stage();
      const { server, client } = await begin(stage, way, THIEF);
      server.child.kill("SIGUSR1");
      expect(await client.exit).toBe(0);
      expect(client.output).toBe(`connecting\nthe number is ${found}\n`);
    },
    30_000,
  );
}

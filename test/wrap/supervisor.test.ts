/** What becomes of a wrapped program when its supervisor is killed or stopped, and of what a killed one leaves. */
import { expect } from "bun:test";
import { execFileSync } from "node:child_process";
import { closeSync, existsSync, openSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { freeze, freezes } from "../helpers/freezer.ts";
import { requires } from "../helpers/requires.ts";
import { type Running, Stage, until } from "../helpers/wrapped.ts";

expectNoFdLeaks();
const python = requires.program("python3", "python3");

const SERVER = `
import errno, os, socket, threading
listener = socket.create_server(("127.0.0.1", 0))
print("pid", os.getpid(), "port", listener.getsockname()[1], flush=True)
def echo(connection):
    while data := connection.recv(100): connection.sendall(data)
try:
    while True:
        connection, _ = listener.accept()
        print("accepted", flush=True)
        threading.Thread(target=echo, args=(connection,), daemon=True).start()
except OSError as error:
    print("accept:", errno.errorcode[error.errno], flush=True)
threading.Event().wait()
`;

const CLIENT = `
import os, socket, sys
port = int(sys.argv[1])
connection = socket.create_connection(("127.0.0.1", port))
print("pid", os.getpid(), flush=True)
for line in open(sys.argv[2]):
    if line.startswith("say"):
        connection.sendall(line.encode())
        print("echo of", connection.recv(100).decode().strip(), flush=True)
    elif line.startswith("dial"):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            print("dialled", flush=True)
        except OSError as error:
            print("dial:", os.strerror(error.errno), flush=True)
`;

/** Orders to the client by a FIFO, since a child's standard input ends with the child, here the supervisor. */
class Orders implements Disposable {
  readonly path: string;
  readonly #fd: number;

  constructor(folder: string) {
    this.path = join(folder, "orders");
    execFileSync("mkfifo", [this.path]);
    this.#fd = openSync(this.path, "r+");
  }

  say(text: string): void {
    writeSync(this.#fd, `${text}\n`);
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}

type Scene = { readonly server: Running; readonly client: Running; readonly pids: number[]; readonly port: number };

async function start(stage: Stage, orders: Orders): Promise<Scene> {
  const server = stage.wrap(["python3", "-u", "-c", SERVER]);
  const port = Number(await server.match(/port (\d+)/));
  const client = stage.wrap(["python3", "-u", "-c", CLIENT, String(port), orders.path]);
  const pids = [await server.match(/pid (\d+)/), await client.match(/pid (\d+)/)].map(Number);
  orders.say("say one");
  await client.match(/echo of say one/);
  return { server, client, pids, port };
}

requires.test(
  [python],
  "a killed supervisor: connections go on, trapped calls fail with ENOSYS, and its socket is swept later",
  async () => {
    await using stage = new Stage();
    using orders = new Orders(stage.path);
    const { server, client, pids, port } = await start(stage, orders);
    const { path } = await stage.listener(port);
    process.kill(server.pid, "SIGKILL");
    await server.match(/accept: ENOSYS/);
    orders.say("say two");
    await client.match(/echo of say two/);
    stage.registry.withdraw(port); // as a broker does when its peer ends
    await until("a refusal", () => {
      orders.say("dial"); // what was resolved a moment ago may be remembered
      return client.output.includes("dial: Connection refused");
    });
    process.kill(client.pid, "SIGKILL");
    await until("the client's supervisor to be gone", () => !existsSync(`/proc/${client.pid}/exe`));
    orders.say("dial");
    await client.match(/dial: Function not implemented/);
    orders.say("say three");
    await client.match(/echo of say three/);

    expect(await stage.wrap(["true"]).exit).toBe(0);
    expect(existsSync(path)).toBe(true); // the program still holds the listener
    for (const pid of pids) process.kill(pid, "SIGKILL");
    await Promise.all([server.exit, client.exit]);
    expect(await stage.wrap(["true"]).exit).toBe(0);
    expect(existsSync(path)).toBe(false);
  },
  30_000,
);

/** @returns what lets it go on */
async function stop(pid: number): Promise<Disposable> {
  process.kill(pid, "SIGSTOP");
  await until("the stop", () => /^State:\s*T/m.test(readFileSync(`/proc/${pid}/status`, "latin1")));
  return { [Symbol.dispose]: () => process.kill(pid, "SIGCONT") };
}

const HALTS = {
  "a stopped supervisor": { needs: [], halt: stop },
  "a frozen supervisor (cgroup v2)": { needs: [freezes], halt: freeze },
};

for (const [what, { needs, halt }] of Object.entries(HALTS)) {
  requires.test(
    [python, ...needs],
    `${what}: connections go on, trapped calls wait for it to go on`,
    async () => {
      await using stage = new Stage();
      using orders = new Orders(stage.path);
      const { server, client } = await start(stage, orders);
      using halted = new DisposableStack();
      halted.use(await halt(server.pid));
      orders.say("say two");
      await client.match(/echo of say two/);
      orders.say("dial"); // taken by the kernel's queue
      await client.match(/dialled/);
      expect(server.output.match(/accepted/g)).toHaveLength(1);
      halted.dispose();
      await server.match(/accepted\n(?:.*\n)*accepted/);
      orders.say("say three");
      await client.match(/echo of say three/);
      expect(stage.registry.fallbacks()).toEqual([]);
      for (const { child, exit } of [client, server]) {
        child.kill();
        expect(await exit).toBe(143);
      }
    },
    30_000,
  );

  requires.test(
    [python, ...needs],
    `${what}: a program that waits for it can be killed, and nothing is left once it goes on`,
    async () => {
      await using stage = new Stage();
      const server = stage.wrap(["python3", "-u", "-c", SERVER]);
      const pid = Number(await server.match(/pid (\d+)/));
      await stage.listener(Number(await server.match(/port (\d+)/)));
      using halted = new DisposableStack();
      halted.use(await halt(server.pid));
      process.kill(pid, "SIGKILL");
      await until("its end", () => /^State:\s*Z/m.test(readFileSync(`/proc/${pid}/status`, "latin1")));
      halted.dispose();
      expect(await server.exit).toBe(137);
    },
    30_000,
  );
}

/** `inspect` of a wrapped listener: who listens, and who is connected, by the processes themselves and not by their supervisors. */
import { expect } from "bun:test";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { requires } from "../helpers/requires.ts";
import { BUN } from "../helpers/runtimes.ts";
import { freePort, Running, until } from "../helpers/wrapped.ts";
import { Cli } from "./fixture.ts";

const LIMIT_MS = 60_000;
const python = requires.program("python3", "python3");

/** Echoes on every connection until its stdin ends. */
const SERVE = `
import os, socket, sys, threading
def echo(connection):
    while data := connection.recv(100): connection.sendall(data)
    connection.close()
def serve():
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=echo, args=(connection,), daemon=True).start()
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=100)
threading.Thread(target=serve, daemon=True).start()
print("pid", os.getpid(), flush=True)
sys.stdin.read()
`;

/** Connects so often, by TCP or to a path, has each connection answered, and holds them until its stdin ends. */
const HOLD = `
import os, socket, sys
where, count, forks = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
def dial():
    if not where.startswith("/"): return socket.create_connection(("127.0.0.1", int(where)))
    s = socket.socket(socket.AF_UNIX); s.connect(where); return s
held = [dial() for _ in range(count)]
for s in held: s.sendall(b"x"); assert s.recv(1) == b"x"
for _ in range(forks):
    if os.fork() == 0: sys.stdin.read(); os._exit(0)
print("pid", os.getpid(), held[0].getsockname()[1] if where.isdigit() else 0, flush=True)
sys.stdin.read()
`;

type Client = { address: string; port: number; via: string; pid: number | null; uid: number | null; exe: string };
type Seen = { owner: { pid: number; uid: number; exe: string }; open: number; clients: Client[]; path: string };

/** A child whose output is waited for. */
function started(cli: Cli, argv: readonly string[]): Running & { end(): Promise<number> } {
  const [program = "", ...args] = argv;
  const running = new Running(["env", `SHMLINK_SOCKET=${cli.socketPath}`, program, ...args], cli.directory, "pipe");
  return Object.assign(running, {
    end: () => {
      running.child.stdin?.end();
      return running.exit;
    },
  });
}

async function inspect(cli: Cli, port: number): Promise<Seen> {
  const { code, text, stderr } = await cli.run(["inspect", String(port), "--json"]);
  expect([code, stderr]).toEqual([0, ""]);
  return JSON.parse(text) as Seen;
}

requires.test(
  [python],
  "inspect names the process that listens and each that is connected, wrapped or by the Unix socket, and costs no trap",
  async () => {
    await using cli = new Cli(BUN);
    const port = freePort();
    const server = started(cli, cli.command("wrap", "--", "python3", "-c", SERVE, String(port)));
    const serverPid = Number(await server.match(/pid (\d+)/));
    const empty = await inspect(cli, port);
    expect(empty).toMatchObject({ open: 0, clients: [], owner: { pid: serverPid, exe: expect.any(String) } });
    expect(serverPid).not.toBe(server.pid);

    const wrapped = started(cli, cli.command("wrap", "--", "python3", "-c", HOLD, String(port), "1", "2"));
    const [, wrappedPid, from] = /pid (\d+) (\d+)/.exec(await wrapped.match(/(pid \d+ \d+)/)) ?? [];
    const plain = started(cli, ["python3", "-c", HOLD, empty.path, "1", "0"]);
    const plainPid = Number(await plain.match(/pid (\d+)/));

    const before = await inspect(cli, port);
    const identity = { uid: process.getuid?.() ?? -1, exe: expect.stringContaining("python3") };
    expect(before.open).toBe(2);
    expect(before.clients.find(({ via }) => via === "wrap")).toEqual({
      ...identity,
      address: "127.0.0.1",
      port: Number(from),
      via: "wrap",
      pid: Number(wrappedPid),
    });
    expect(before.clients.find(({ via }) => via === "unix")).toMatchObject({ ...identity, pid: plainPid });
    // A call is counted when it has been answered.
    const looks = [before];
    await until("two looks at the same, traps among the rest", async () => {
      looks.push(await inspect(cli, port));
      return isDeepStrictEqual(looks.at(-1), looks.at(-2));
    });
    const text = (await cli.run(["inspect", String(port)])).text;
    expect(text).toMatch(/^open +2$/m);
    expect(text).toMatch(new RegExp(`^clients [12]\\n(?: {2}.*\\n)* {2}pid +${wrappedPid}$`, "m"));

    expect([await wrapped.end(), await plain.end()]).toEqual([0, 0]);
    await until("the connections to end", async () => (await inspect(cli, port)).open === 0);
    expect(await server.end()).toBe(0);
  },
  LIMIT_MS,
);

requires.test(
  [python],
  "inspect tells of the newest 32 clients, and how many there are, also at a path that a rule chose",
  async () => {
    await using cli = new Cli(BUN);
    const port = freePort();
    const rule = `in,path=${join(cli.directory, "web.sock")},mode=0600`;
    const server = started(cli, cli.command("wrap", "-r", rule, "--", "python3", "-c", SERVE, String(port)));
    await server.match(/pid (\d+)/);
    const first = started(cli, cli.command("wrap", "--", "python3", "-c", HOLD, String(port), "5", "0"));
    await first.match(/pid (\d+)/);
    const many = started(cli, cli.command("wrap", "--", "python3", "-c", HOLD, String(port), "40", "0"));
    const pid = Number(await many.match(/pid (\d+)/));
    const { open, clients } = await inspect(cli, port);
    expect([open, clients.length, new Set(clients.map((client) => client.port)).size]).toEqual([45, 32, 32]);
    expect(clients.filter((client) => client.pid === pid).length).toBeGreaterThan(0);
    expect([await many.end(), await first.end(), await server.end()]).toEqual([0, 0, 0]);
  },
  LIMIT_MS,
);

requires.test(
  [python, requires.root(), requires.program("setpriv", "util-linux"), requires.program("nc", "netcat-openbsd")],
  "inspect tells the user of a client that is another's",
  async () => {
    await using cli = new Cli(BUN);
    const port = freePort();
    const path = `/tmp/shm-shared-${port}.sock`;
    const server = started(
      cli,
      cli.command("wrap", "-r", `in,path=${path},mode=0666`, "--", "python3", "-c", SERVE, String(port)),
    );
    await server.match(/pid (\d+)/);
    const user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    const client = started(cli, [...user, "nc", "-NU", path]);
    await until("the client", async () => (await inspect(cli, port)).open === 1);
    const { clients } = await inspect(cli, port);
    expect(clients).toMatchObject([{ via: "unix", pid: client.pid, uid: 65534, exe: expect.stringMatching(/nc/) }]);
    expect([await client.end(), await server.end()]).toEqual([0, 0]);
  },
  LIMIT_MS,
);

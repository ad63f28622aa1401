/** What rules do to the sockets of running programs; their language is tested with lib/wrap/rules. */
import { expect } from "bun:test";
import { existsSync, lstatSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { requires } from "../helpers/requires.ts";
import { freePort, type Running, Stage, until } from "../helpers/wrapped.ts";

expectNoFdLeaks();
const python = requires.program("python3", "python3");
const curl = requires.program("curl", "curl");

/** Listens where it is told, says so or why not, and echoes one connection. */
const SERVER = `
import errno, socket, sys
try:
    listener = socket.create_server((sys.argv[1], int(sys.argv[2])), family=socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
    print("listening", flush=True)
except OSError as error:
    print("listen:", errno.errorcode[error.errno])
    sys.exit(0)
connection, address = listener.accept()
print("from", address[0], "to", connection.getsockname()[1], "at", connection.getpeername()[0], flush=True)
connection.sendall(connection.recv(100).upper())
`;

const CLIENT = `
import errno, socket, sys
try:
    connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)
except OSError as error:
    print("connect:", errno.errorcode[error.errno])
    sys.exit(0)
connection.sendall(b"hello")
print("answer", connection.recv(100).decode(), "from", connection.getpeername()[1], end="")
`;

type Scene = { readonly stage: Stage; readonly port: number };

function rulesOf(rules: readonly string[]): { flags: string[] } {
  return { flags: rules.map((rule) => `--rule=${rule}`) };
}

function serve({ stage, port }: Scene, ...rules: string[]): Running {
  return stage.wrap(["python3", "-u", "-c", SERVER, "127.0.0.1", String(port)], rulesOf(rules));
}

function dial({ stage, port }: Scene, ...rules: string[]): Running {
  return stage.wrap(["python3", "-c", CLIENT, "127.0.0.1", String(port)], rulesOf(rules));
}

async function finish(running: Running): Promise<string> {
  expect(await running.exit).toBe(0);
  return running.output;
}

function rule(
  needs: readonly ReturnType<typeof requires.program>[],
  title: string,
  body: (scene: Scene) => Promise<void>,
) {
  requires.test(
    needs,
    title,
    async () => {
      await using stage = new Stage();
      await body({ stage, port: freePort() });
    },
    30_000,
  );
}

const hello = (port: number): string => `answer HELLO from ${port}`;

rule([python], "path= puts the socket there, with its mode, known to the registry, gone at the end", async (scene) => {
  const { stage, port } = scene;
  const path = join(stage.path, `web-127.0.0.1-${port}`);
  const server = serve(scene, `in,path=${stage.path}/web-%a-%p,mode=0621`);
  await server.match(/listening/);
  expect((await stage.listener(port)).path).toBe(path);
  expect(lstatSync(path).mode & 0o7777).toBe(0o621);
  expect(await finish(dial(scene))).toBe(hello(port));
  expect(await finish(server)).toBe(`listening\nfrom 127.0.0.1 to ${port} at 127.0.0.1\n`);
  expect(existsSync(path)).toBe(false);
});

rule([python], "noremove leaves the socket file, and the next listener takes its place", async (scene) => {
  const path = join(scene.stage.path, "kept");
  for (let round = 0; round < 2; round++) {
    const server = serve(scene, `in,path=${path},noremove`);
    await server.match(/listening/);
    expect(await finish(dial(scene))).toBe(hello(scene.port));
    await finish(server);
    expect(lstatSync(path).isSocket()).toBe(true);
  }
});

rule(
  [python],
  "a path that nobody could connect to, or an owner that nobody is, leaves the listener to TCP",
  async (scene) => {
    const long = join(scene.stage.path, "x".repeat(100));
    for (const text of [`in,path=${long}`, `in,path=${join(scene.stage.path, "s")},owner=nobody-of-that-name`]) {
      expect(await finish(serve(scene, `${text},require`))).toBe("listen: EADDRINUSE\n");
      const server = serve(scene, text);
      await server.match(/listening/);
      expect(scene.stage.registry.entries()).toEqual([]);
      expect(await finish(dial(scene))).toBe(hello(scene.port));
      await finish(server);
    }
  },
);

/** Listens twice, says where it then is, and connects from there. */
const STUBBORN = `
import errno, socket
port = 0
for _ in range(2): # first one that the kernel chooses, then one that the program does
    s = socket.socket()
    if port: s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("127.0.0.2", port))
    port = s.getsockname()[1]
    for _ in range(2):
        try: s.listen()
        except OSError as error: print("listen:", errno.errorcode[error.errno])
    print("reached:", socket.socket().connect_ex(("127.0.0.2", port)) == 0)
    other = socket.create_server(("127.0.0.1", 0))
    s.connect(other.getsockname())
    print("kept:", other.accept()[1] == ("127.0.0.2", port))
    s.close()
`;

rule([python], "a listener that require refuses does not listen, and is refused again", async ({ stage }) => {
  const file = join(stage.path, "file");
  writeFileSync(file, "mine");
  const rules = rulesOf([`in,addr=127.0.0.2,path=${file},require`, "ignore"]);
  const refused = "listen: EADDRINUSE\nlisten: EADDRINUSE\nreached: False\nkept: True\n";
  expect(await finish(stage.wrap(["python3", "-c", STUBBORN], rules))).toBe(refused.repeat(2));
});

rule([python, requires.root()], "owner= and group= are the socket file's", async (scene) => {
  const path = join(scene.stage.path, "owned");
  const server = serve(scene, `in,path=${path},owner=65534,group=7,mode=0620`);
  await server.match(/listening/);
  const { uid, gid, mode } = lstatSync(path);
  expect([uid, gid, mode & 0o7777]).toEqual([65534, 7, 0o620]);
  expect(await finish(dial(scene))).toBe(hello(scene.port));
  await finish(server);
});

rule([python], "path= never takes the place of a file or of a socket that is served", async (scene) => {
  const { stage, port } = scene;
  const file = join(stage.path, "file");
  writeFileSync(file, "mine");
  expect(await finish(serve(scene, `in,path=${file},require`))).toBe("listen: EADDRINUSE\n");
  expect(lstatSync(file).isFile()).toBe(true);
  const path = join(stage.path, "served");
  const other = createServer();
  await new Promise<void>((resolve) => other.listen(path, resolve));
  expect(await finish(serve(scene, `in,path=${path},require`))).toBe("listen: EADDRINUSE\n");
  const server = serve(scene, `in,path=${path}`);
  await server.match(/listening/);
  expect(await finish(dial(scene))).toBe(hello(port)); // plain TCP, since nothing else was required
  await finish(server);
  await new Promise((resolve) => other.close(resolve));
});

rule([python], "out,path= reaches a socket that the registry does not know", async (scene) => {
  const { stage, port } = scene;
  const path = join(stage.path, "there");
  const other = createServer((socket) => socket.on("data", (data) => socket.end(data.toString().toUpperCase())));
  await new Promise<void>((resolve) => other.listen(path, resolve));
  expect(await finish(dial(scene, `out,port=${port},path=${path}`))).toBe(hello(port));
  await new Promise((resolve) => other.close(resolve));
});

rule([python], "abstract= on both sides, without a file and without plain TCP", async (scene) => {
  const name = `shmlink-test-${process.pid}-%p`;
  const server = serve(scene, `in,abstract=${name},no-tcp`);
  await server.match(/listening/);
  expect(await finish(dial(scene))).toBe("connect: ECONNREFUSED\n");
  expect(await finish(dial(scene, `out,abstract=${name}`))).toBe(hello(scene.port));
  expect(await finish(server)).toBe(`listening\nfrom 127.0.0.1 to ${scene.port} at 127.0.0.1\n`);
});

rule([python], "reject refuses listen and connect with its error", async (scene) => {
  expect(await finish(serve(scene, "in,reject"))).toBe("listen: EACCES\n");
  expect(await finish(serve(scene, "in,reject=EADDRNOTAVAIL"))).toBe("listen: EADDRNOTAVAIL\n");
  expect(await finish(dial(scene, "out,reject=ENETUNREACH"))).toBe("connect: ENETUNREACH\n");
});

rule([python], "blackhole lets a program listen where nobody can come", async (scene) => {
  const { stage, port } = scene;
  const server = serve(scene, "in,blackhole");
  await server.match(/listening/);
  expect(stage.sockets()).toEqual([]);
  expect(stage.registry.entries()).toEqual([]);
  for (const client of [dial(scene), stage.plain(["python3", "-c", CLIENT, "127.0.0.1", String(port)])])
    expect(await finish(client)).toBe("connect: ECONNREFUSED\n");
  server.child.kill();
  await server.exit;
});

rule([python], "ignore leaves sockets to plain TCP, and first match wins", async (scene) => {
  const { stage, port } = scene;
  const server = serve(scene, `in,port=${port},ignore`, "in,reject");
  await server.match(/listening/);
  expect(stage.registry.entries()).toEqual([]);
  expect(await finish(dial(scene))).toBe(hello(port));
  expect(await finish(server)).toContain("from 127.0.0.1");
});

rule([python], "require refuses what would go over plain TCP", async (scene) => {
  const { stage, port } = scene;
  const server = stage.plain(["python3", "-u", "-c", SERVER, "127.0.0.1", String(port)]);
  await server.match(/listening/);
  expect(await finish(dial(scene, "out,require"))).toBe("connect: ECONNREFUSED\n");
  expect(await finish(dial(scene))).toBe(hello(port));
  await finish(server);
});

rule([python], "no-tcp keeps plain clients away from that listener", async (scene) => {
  const { stage, port } = scene;
  const server = serve(scene, "in,no-tcp");
  await server.match(/listening/);
  expect(await finish(stage.plain(["python3", "-c", CLIENT, "127.0.0.1", String(port)]))).toBe(
    "connect: ECONNREFUSED\n",
  );
  expect(await finish(dial(scene))).toBe(hello(port));
  await finish(server);
});

const TWICE = `
import socket, sys, time
first = socket.create_server(("127.0.0.1", int(sys.argv[1])))
second = socket.create_server(("::1", int(sys.argv[1])), family=socket.AF_INET6)
print("listening", flush=True)
for _ in range(2):
    connection, _ = first.accept()
    connection.sendall(b"HELLO")
    connection.shutdown(socket.SHUT_WR)
    connection.recv(1000)
`;

rule([python, curl], "the same path a second time, for IPv6 besides IPv4, is a blackhole", async ({ stage, port }) => {
  const path = join(stage.path, "both");
  const server = stage.wrap(["python3", "-u", "-c", TWICE, String(port)], rulesOf([`in,path=${path}`]));
  await server.match(/listening/);
  await until("the socket", () => existsSync(path));
  const client = stage.plain(["curl", "-s", "--http0.9", "--unix-socket", path, "http://x/"]);
  await client.exit;
  expect(client.output).toContain("HELLO");
  const dialTcp = (host: string) => finish(stage.plain(["python3", "-c", CLIENT, host, String(port)]));
  expect(await dialTcp("::1")).toBe("connect: ECONNREFUSED\n");
  expect(await dialTcp("127.0.0.1")).toBe(hello(port));
  await finish(server);
});

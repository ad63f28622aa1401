/** Real, unmodified programs: reached by plain TCP and by wrapped clients, with addresses that make sense to both. */
import { expect } from "bun:test";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { findProgram, requires } from "../helpers/requires.ts";
import { ROOT } from "../helpers/runtimes.ts";
import { freePort, type Running, Stage, until } from "../helpers/wrapped.ts";

expectNoFdLeaks();
const LIMIT_MS = 60_000;
const curl = requires.program("curl", "curl");
const python = requires.program("python3", "python3");

async function output(running: Running): Promise<string> {
  const code = await running.exit;
  if (code !== 0) throw new Error(`exit code ${code}: ${running.output}`);
  return running.output;
}

/** The same URL by a plain and by a wrapped curl. */
async function fetchBoth(stage: Stage, url: string): Promise<string[]> {
  const command = ["curl", "-sS", "--max-time", "10", "--retry", "3", "--retry-connrefused", url];
  return [await output(stage.plain(command)), await output(stage.wrap(command))];
}

async function expectNoFallback(stage: Stage, server: Running, signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
  expect(stage.registry.fallbacks()).toEqual([]);
  server.child.kill(signal);
  await server.exit;
}

for (const [address, host] of [
  ["127.0.0.1", "127.0.0.1"],
  ["::", "[::1]"],
] as const) {
  requires.test(
    [python, curl],
    `python3 -m http.server on ${address}`,
    async () => {
      await using stage = new Stage();
      writeFileSync(join(stage.path, "page"), "the page\n");
      const port = freePort();
      const server = stage.wrap(["python3", "-u", "-m", "http.server", String(port), "--bind", address]);
      const { path } = await stage.listener(port);
      expect(await fetchBoth(stage, `http://${host}:${port}/page`)).toEqual(["the page\n", "the page\n"]);
      expect(await output(stage.plain(["curl", "-sS", "--unix-socket", path, "http://x/page"]))).toBe("the page\n");
      await server.match(/GET \/page.*\n.*GET \/page.*\n.*GET \/page/);
      await expectNoFallback(stage, server);
    },
    LIMIT_MS,
  );
}

const SAYS_WHO = `
import socket
listener = socket.create_server(("127.0.0.1", 0))
print("port", listener.getsockname()[1], flush=True)
while True:
    connection, peer = listener.accept()
    with connection: connection.sendall(f"{peer[0]} {connection.getpeername() == peer} {connection.getsockname()[0]}\\n".encode())
`;
const STRANGERS = `
import socket, sys
for name in sys.argv[2:]:
    with socket.socket(socket.AF_UNIX) as own:
        own.bind("\\0" + name)
        own.connect(sys.argv[1])
        print(own.makefile().readline().strip())
`;

requires.test(
  [python],
  "peers that come with a name of another family, or an odd one, look like strangers, and end nothing",
  async () => {
    await using stage = new Stage();
    const server = stage.wrap(["python3", "-c", SAYS_WHO]);
    const port = await server.match(/port (\d+)/);
    const { path } = await stage.listener(Number(port));
    const names = [
      "/4/::1-5/127.0.0.1-",
      "/4/127.0.0.1-5/::1-",
      "/4/::ffff:127.0.0.1-5/127.0.0.1-",
      "/6/::1-5/::1-",
      "/6/::-5/x-",
    ];
    const argv = ["python3", "-c", STRANGERS, path, ...names.map((name) => `shmlink${name}${port}`)];
    const stranger = "127.0.0.1 True 127.0.0.1\n";
    expect(await output(stage.plain(argv))).toBe(stranger.repeat(names.length));
    expect(await output(stage.plain([...argv.slice(0, 4), `shmlink/4/127.0.0.9-5/127.0.0.1-${port}`]))).toBe(
      "127.0.0.9 True 127.0.0.1\n",
    );
  },
  LIMIT_MS,
);

const NODE_SERVER = `
const server = require("http").createServer(({ socket }, response) => {
  const { remoteAddress, remoteFamily, localAddress, localPort } = socket;
  response.end(JSON.stringify({ remoteAddress, remoteFamily, localAddress, localPort }));
});
server.listen(0, () => console.log("port", server.address().port));
`;

requires.test(
  [requires.program("node", "nodejs"), curl],
  "a node server on every address, IPv4 and IPv6, on a port of the kernel's choice",
  async () => {
    await using stage = new Stage();
    const server = stage.wrap(["node", "-e", NODE_SERVER]);
    const port = Number(await server.match(/port (\d+)/));
    for (const [host, address] of [
      ["127.0.0.1", "::ffff:127.0.0.1"],
      ["[::1]", "::1"],
    ]) {
      for (const text of await fetchBoth(stage, `http://${host}:${port}/`)) {
        expect(JSON.parse(text)).toEqual({
          remoteAddress: address,
          remoteFamily: "IPv6",
          localAddress: address,
          localPort: port,
        });
      }
    }
    await expectNoFallback(stage, server);
  },
  LIMIT_MS,
);

/** @param servers  server { } and upstream { } blocks */
function nginxConfig(folder: string, servers: string): string {
  const temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(
    (name) => `${name}_temp_path ${folder}/${name};`,
  );
  return `worker_processes 2; pid ${folder}/pid; error_log ${folder}/error.log warn;
events { worker_connections 64; }
http { access_log off; ${temp.join(" ")}
  ${servers} }
`;
}

/** nginx with a folder of its own, and the command that starts it. */
function prepareNginx(stage: Stage, name: string, servers: string): { argv: string[]; folder: string } {
  const folder = join(stage.path, name);
  mkdirSync(folder);
  writeFileSync(join(folder, "conf"), nginxConfig(folder, servers));
  return { argv: ["nginx", "-p", folder, "-c", join(folder, "conf"), "-g", "daemon off;"], folder };
}

const nginx = requires.program("nginx", "nginx-light");

for (const variant of ["", " reuseport"]) {
  requires.test(
    [nginx, curl],
    `nginx with two workers${variant}`,
    async () => {
      await using stage = new Stage();
      const port = freePort();
      const page = `127.0.0.1 127.0.0.1:${port}\n`;
      const { argv, folder } = prepareNginx(
        stage,
        "nginx",
        `server { listen 127.0.0.1:${port}${variant}; location / { return 200 "$remote_addr $server_addr:$server_port\\n"; } }`,
      );
      const server = stage.wrap(argv);
      await stage.listener(port);
      const fetchSome = async (): Promise<string[]> =>
        (await Promise.all([1, 2, 3, 4].map(() => fetchBoth(stage, `http://127.0.0.1:${port}/`)))).flat();
      expect(await fetchSome()).toEqual(Array(8).fill(page));
      const master = Number(readFileSync(join(folder, "pid"), "latin1"));
      const workers = (): string[] => childrenOf(master);
      await until("the workers", () => workers().length === 2);

      const [victim = ""] = workers();
      process.kill(Number(victim), "SIGKILL");
      await until("another worker", () => workers().length === 2 && !workers().includes(victim));
      expect(await fetchSome()).toEqual(Array(8).fill(page));

      const before = workers();
      process.kill(master, "SIGHUP");
      await until("new workers", () => workers().length === 2 && !workers().some((pid) => before.includes(pid)));
      expect(await fetchSome()).toEqual(Array(8).fill(page));

      const log = readFileSync(join(folder, "error.log"), "utf8").split("\n");
      expect(log.filter((line) => line !== "" && !line.includes("exited on signal 9"))).toEqual([]);
      await expectNoFallback(stage, server, "SIGTERM");
    },
    LIMIT_MS,
  );
}

/** "" while it is not there. */
function contentOf(path: string): string {
  try {
    return readFileSync(path, "latin1").trim();
  } catch {
    return "";
  }
}

/** Whether the process that started a daemon has ended: until then nginx ignores USR2. */
function isOrphan(pid: string): boolean {
  const parent = /^PPid:\s*(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  return !contentOf(`/proc/${parent}/comm`).startsWith("nginx");
}

function childrenOf(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, "latin1").trim().split(" ").filter(Boolean);
  } catch {
    return [];
  }
}

requires.test(
  [nginx, curl],
  "nginx upgraded to a new binary (USR2) passes its listener on",
  async () => {
    await using stage = new Stage();
    const port = freePort();
    const { argv, folder } = prepareNginx(
      stage,
      "nginx",
      `server { listen 127.0.0.1:${port}; location / { return 200 "$pid\\n"; } }`,
    );
    const server = stage.wrap([findProgram("nginx") ?? "", ...argv.slice(1, -1), "daemon on;"]); // in front it ignores USR2
    const { path } = await stage.listener(port);
    const old = await until("the pid", () => contentOf(join(folder, "pid")) || undefined);
    await until("the daemon", () => isOrphan(old) && childrenOf(Number(old)).length === 2);
    process.kill(Number(old), "SIGUSR2");
    const fresh = await until("the new master", () => {
      const pid = contentOf(join(folder, "pid"));
      return pid !== "" && pid !== old && childrenOf(Number(pid)).length === 2 && pid;
    });
    process.kill(Number(old), "SIGQUIT");
    await until("the end of the old master", () => !existsSync(`/proc/${old}/exe`));
    const workers = childrenOf(Number(fresh));
    for (const text of await fetchBoth(stage, `http://127.0.0.1:${port}/`)) expect(workers).toContain(text.trim());
    expect((await stage.listener(port)).path).toBe(path);
    expect(stage.registry.fallbacks()).toEqual([]);
    process.kill(Number(fresh), "SIGTERM");
    await server.exit;
  },
  LIMIT_MS,
);

for (const keepalive of [true, false]) {
  requires.test(
    [nginx, python, curl],
    `nginx as reverse proxy to a wrapped upstream, ${keepalive ? "kept alive" : "connected anew"}, which ends and comes back`,
    async () => {
      await using stage = new Stage();
      const [front, back] = [freePort(), freePort()];
      const { argv } = prepareNginx(
        stage,
        "front",
        `upstream back { server 127.0.0.1:${back} max_fails=0; ${keepalive ? "keepalive 4;" : ""} }
         server { listen 127.0.0.1:${front};
           location / { proxy_pass http://back; proxy_http_version 1.1; proxy_set_header Connection ""; } }`,
      );
      const upstream = (name: string): { argv: string[] } =>
        prepareNginx(
          stage,
          name,
          `server { listen 127.0.0.1:${back}; location / { return 200 "from $remote_addr\\n"; } }`,
        );
      let server = stage.wrap(upstream("back").argv);
      await stage.listener(back);
      const proxy = stage.wrap(argv);
      await stage.listener(front);
      const url = `http://127.0.0.1:${front}/`;
      for (let round = 0; round < 3; round++) {
        expect(await fetchBoth(stage, url)).toEqual(["from 127.0.0.1\n", "from 127.0.0.1\n"]);
      }
      server.child.kill();
      await server.exit;
      const code = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", url];
      expect(await output(stage.plain(code))).toBe("502");
      server = stage.wrap(upstream("again").argv);
      await stage.listener(back);
      expect(await fetchBoth(stage, url)).toEqual(["from 127.0.0.1\n", "from 127.0.0.1\n"]);
      await expectNoFallback(stage, proxy);
      server.child.kill();
      await server.exit;
    },
    LIMIT_MS,
  );
}

const CLIENT_LIST = `
import re, socket, sys
port = int(sys.argv[1])
clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(8)]
for client in clients: client.sendall(b"PING\\r\\n"); client.recv(100)
clients[0].sendall(b"CLIENT LIST\\r\\n")
text = clients[0].recv(65536).decode()
pairs = set(re.findall(r" addr=(\\S+) laddr=(\\S+) ", text))
name = lambda a: "%s:%d" % a
print("agreed", len(pairs & {(name(c.getsockname()), name(c.getpeername())) for c in clients}))
`;

requires.test(
  [requires.program("redis-server", "redis-server"), requires.program("redis-cli", "redis-tools"), python],
  "redis: the client's address at the server is the client's own",
  async () => {
    await using stage = new Stage();
    const port = freePort();
    const server = stage.wrap(["redis-server", "--port", String(port), "--save", "", "--bind", "127.0.0.1", "::1"]);
    await server.match(/Ready to accept/);
    const cli = ["redis-cli", "-p", String(port)];
    expect(await output(stage.plain([...cli, "set", "key", "value"]))).toBe("OK\n");
    expect(await output(stage.wrap([...cli, "get", "key"]))).toBe("value\n");
    expect(await output(stage.wrap([...cli, "client", "list"]))).toMatch(
      new RegExp(`addr=127.0.0.1:\\d+ laddr=127.0.0.1:${port} `),
    );
    const both = await output(stage.wrap(["python3", "-c", CLIENT_LIST, String(port)]));
    expect(both).toBe("agreed 8\n");
    const bench = ["redis-benchmark", "-p", String(port), "-n", "2000", "-c", "20", "-P", "4", "-q", "-t", "set,get"];
    expect(await output(stage.wrap(bench))).toContain("requests per second");
    await expectNoFallback(stage, server);
  },
  LIMIT_MS,
);

requires.test(
  [requires.program("memcached", "memcached"), requires.program("bash", "bash")],
  "memcached with threads, and bash's /dev/tcp as its client",
  async () => {
    await using stage = new Stage();
    const port = freePort();
    const user = process.getuid?.() === 0 ? ["-u", "nobody"] : [];
    const server = stage.wrap(["memcached", "-t", "4", "-l", "127.0.0.1", "-p", String(port), ...user]);
    await stage.listener(port);
    const script = `exec 3<>/dev/tcp/127.0.0.1/${port}; printf 'set a 0 0 1\\r\\nb\\r\\nget a\\r\\nstats conns\\r\\nquit\\r\\n' >&3; cat <&3`;
    for (const client of [stage.plain(["bash", "-c", script]), stage.wrap(["bash", "-c", script])]) {
      const text = await output(client);
      expect(text).toContain("STORED\r\nVALUE a 0 1\r\nb\r\n");
      expect(text).toMatch(/addr tcp:127.0.0.1:\d+\r\n.*listen_addr tcp:127.0.0.1:\d+/);
    }
    await expectNoFallback(stage, server);
  },
  LIMIT_MS,
);

requires.test(
  [requires.program("go", "golang-go")],
  "a static Go program that serves and dials",
  async () => {
    await using stage = new Stage();
    const binary = join(stage.path, "http-many");
    const env = { ...process.env, CGO_ENABLED: "0", GOFLAGS: "-mod=mod", GOCACHE: join(stage.path, "go-cache") };
    execFileSync("go", ["build", "-o", binary, join(ROOT, "test/fixtures/programs/http-many.go")], { env });
    const withoutSignals = ["env", "GODEBUG=asyncpreemptoff=1"]; // else its own may interrupt a connect(), which goes over TCP
    expect(await output(stage.wrap([...withoutSignals, binary]))).toBe("different 400\n");
    expect(stage.registry.fallbacks()).toEqual([]);
  },
  180_000,
);

requires.test(
  [python, curl],
  "python3 -m http.server, with its short backlog, under 64 curls at once",
  async () => {
    await using stage = new Stage();
    writeFileSync(join(stage.path, "page"), "the page\n");
    const port = freePort();
    const server = stage.wrap(["python3", "-m", "http.server", String(port), "--bind", "127.0.0.1"]);
    await stage.listener(port);
    const url = `http://127.0.0.1:${port}/page`;
    const script = `for i in $(seq 64); do curl -sS --max-time 20 ${url} & done; wait`;
    expect(await output(stage.wrap(["bash", "-c", script]))).toBe("the page\n".repeat(64));
    await expectNoFallback(stage, server, "SIGINT");
    expect(server.output.match(/"GET \/page HTTP\/1.1" 200/g)).toHaveLength(64);
    expect(server.output).toContain("Keyboard interrupt received");
  },
  LIMIT_MS,
);

requires.test(
  [python],
  "asyncio: 2,000 streams at once, each with an address of its own that both ends agree on",
  async () => {
    await using stage = new Stage();
    const port = String(freePort());
    const program = (role: string): string[] => {
      return ["python3", join(ROOT, "test/fixtures/programs/streams.py"), role, port, "2000"];
    };
    const server = stage.wrap(program("server"));
    await server.match(/listening/);
    expect(await output(stage.wrap(program("client")))).toBe("different 2000\n");
    expect(await output(server)).toMatch(/different 200[01]\n/);
    expect(stage.registry.fallbacks()).toEqual([]);
  },
  LIMIT_MS,
);

const CLUSTER = `
const cluster = require("cluster"), http = require("http");
if (cluster.isPrimary) {
  cluster.schedulingPolicy = Number(process.argv[2]);
  let ready = 0;
  for (let i = 0; i < 2; i++) cluster.fork();
  cluster.on("message", (_, { port }) => { if (++ready === 2) console.log("port", port); });
} else {
  const server = http.createServer(({ socket }, response) => response.end(process.pid + " " + socket.remoteAddress + "\\n"));
  server.listen(Number(process.argv[3]), "127.0.0.1", () => process.send({ port: server.address().port }));
}
`;

for (const [policy, name] of [
  ["1", "shared"],
  ["2", "handed out in turn"],
] as const) {
  requires.test(
    [requires.program("node", "nodejs"), curl],
    `a node cluster of two workers, its listener ${name}`,
    async () => {
      await using stage = new Stage();
      const file = join(stage.path, "cluster.cjs");
      writeFileSync(file, CLUSTER);
      const server = stage.wrap(["node", file, policy, String(freePort())]);
      const port = Number(await server.match(/port (\d+)/));
      const pages = (await Promise.all([1, 2, 3, 4].map(() => fetchBoth(stage, `http://127.0.0.1:${port}/`)))).flat();
      for (const page of pages) expect(page).toMatch(/^\d+ 127\.0\.0\.1\n$/);
      if (policy === "2") expect(new Set(pages.map((page) => page.split(" ")[0])).size).toBe(2);
      await expectNoFallback(stage, server);
    },
    LIMIT_MS,
  );
}

const wget = requires.program("wget", "wget");

requires.test(
  [curl, wget, python, requires.program("bash", "bash")],
  "clients say the same of a server that is there, is not, and is plain TCP",
  async () => {
    await using stage = new Stage();
    writeFileSync(join(stage.path, "page"), "the page\n");
    const [here, plain, absent] = [freePort(), freePort(), freePort()];
    const server = stage.wrap(["python3", "-m", "http.server", String(here), "--bind", "127.0.0.1"]);
    const other = stage.plain(["python3", "-u", "-m", "http.server", String(plain), "--bind", "127.0.0.1"]);
    await stage.listener(here);
    await other.match(/Serving HTTP/);
    for (const port of [here, plain, absent]) {
      for (const client of [
        ["curl", "-sS", `http://127.0.0.1:${port}/page`],
        ["curl", "-sS", `http://[::ffff:127.0.0.1]:${port}/page`],
        ["wget", "-qO-", "--tries=1", `http://127.0.0.1:${port}/page`],
        [
          "bash",
          "-c",
          `exec 3<>/dev/tcp/127.0.0.1/${port} && printf 'GET /page HTTP/1.0\\r\\n\\r\\n' >&3 && tail -n1 <&3`,
        ],
      ]) {
        const [native, wrapped] = [stage.plain(client), stage.wrap(client)];
        const codes = [await native.exit, await wrapped.exit];
        const said = [native.output, wrapped.output].map((text) => text.replace(/after \d+ ms/, "after N ms"));
        expect([codes[1], said[1]]).toEqual([codes[0], said[0]]);
        if (port !== absent) expect(said[1]).toContain("the page");
      }
    }
    other.child.kill();
    await expectNoFallback(stage, server);
  },
  LIMIT_MS,
);

const STORM_SERVER = `
import socket
listener = socket.create_server(("127.0.0.1", 0))
print("port", listener.getsockname()[1])
while True:
    connection, address = listener.accept()
    connection.sendall(str(address[1]).encode())
    connection.close()
`;

const STORM_CLIENT = `
import socket, sys
served = 0
for _ in range(int(sys.argv[2])):
    with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as s:
        served += int(s.recv(100)) == s.getsockname()[1]
print("served", served)
`;

requires.test(
  [python],
  "a storm of a thousand short clients: all are served, and the supervisor's descriptors are what they were",
  async () => {
    await using stage = new Stage();
    const server = stage.wrap(["python3", "-u", "-c", STORM_SERVER]);
    const port = await server.match(/port (\d+)/);
    const descriptors = (): number => readdirSync(`/proc/${server.pid}/fd`).length;
    expect(await output(stage.wrap(["python3", "-c", STORM_CLIENT, port, "50"]))).toBe("served 50\n");
    const before = descriptors();
    expect(await output(stage.wrap(["python3", "-c", STORM_CLIENT, port, "1000"]))).toBe("served 1000\n");
    await until("the supervisor to have let go of the last clients", () => descriptors() <= before);
    await expectNoFallback(stage, server);
  },
  LIMIT_MS,
);

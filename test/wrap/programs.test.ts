/** Real, unmodified programs: reached by plain TCP and by wrapped clients, with addresses that make sense to both. */
import { expect } from "bun:test";
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { requires } from "../helpers/requires.ts";
import { ROOT } from "../helpers/runtimes.ts";
import { freePort, type Running, Stage } from "../helpers/wrapped.ts";

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

function nginxConfig(folder: string, port: number): string {
  const temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(
    (name) => `${name}_temp_path ${folder}/${name};`,
  );
  return `daemon off; worker_processes 2; pid ${folder}/pid; error_log ${folder}/error.log warn;
events { worker_connections 64; }
http { access_log off; ${temp.join(" ")}
  server { listen 127.0.0.1:${port}; location / { return 200 "$remote_addr $server_addr:$server_port\\n"; } } }
`;
}

requires.test(
  [requires.program("nginx", "nginx-light"), curl],
  "nginx with two workers",
  async () => {
    await using stage = new Stage();
    const port = freePort();
    const folder = join(stage.path, "nginx");
    mkdirSync(folder);
    writeFileSync(join(folder, "conf"), nginxConfig(folder, port));
    const server = stage.wrap(["nginx", "-p", folder, "-c", join(folder, "conf")]);
    await stage.listener(port);
    const page = `127.0.0.1 127.0.0.1:${port}\n`;
    const all = await Promise.all([1, 2, 3, 4].map(() => fetchBoth(stage, `http://127.0.0.1:${port}/`)));
    expect(all.flat()).toEqual(Array(8).fill(page));
    expect(readFileSync(join(folder, "error.log"), "utf8")).toBe("");
    await expectNoFallback(stage, server, "SIGTERM");
  },
  LIMIT_MS,
);

requires.test(
  [requires.program("redis-server", "redis-server"), requires.program("redis-cli", "redis-tools")],
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
    expect(await output(stage.wrap([binary]))).toBe("different 400\n");
    expect(stage.registry.fallbacks()).toEqual([]);
  },
  180_000,
);

const EPOLL_FIRST = `
import select, socket, sys
s = socket.socket(); s.setblocking(False)
e = select.epoll(); e.register(s, select.EPOLLOUT)
s.connect_ex(("127.0.0.1", int(sys.argv[1])))
while not any(events & select.EPOLLOUT and not events & select.EPOLLHUP for _, events in e.poll(5)): pass
s.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n"); s.setblocking(True)
print(s.recv(12).decode())
`;

requires.test(
  [python],
  "a socket that is in an epoll set before it connects goes over TCP, with the reason",
  async () => {
    await using stage = new Stage();
    const port = freePort();
    const server = stage.wrap(["python3", "-m", "http.server", String(port), "--bind", "127.0.0.1"]);
    await stage.listener(port);
    expect(await output(stage.wrap(["python3", "-c", EPOLL_FIRST, String(port)]))).toBe("HTTP/1.0 200\n");
    expect(stage.registry.fallbacks()).toEqual([
      `127.0.0.1 ${port} the socket was in an epoll set before it was connected`,
    ]);
    server.child.kill();
    await server.exit;
  },
  LIMIT_MS,
);

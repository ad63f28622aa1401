/** Connections that are kept alive move their data without a trapped call, at either end. */
import { expect } from "bun:test";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Cli } from "../cli/fixture.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { descendants, quiet } from "../helpers/process-state.ts";
import { type Requirement, requires } from "../helpers/requires.ts";
import { BUN } from "../helpers/runtimes.ts";
import { freePort, until } from "../helpers/wrapped.ts";

expectNoFdLeaks();
const python = requires.program("python3", "python3");
const REQUESTS = 300;

/** Sends its request again and again over one connection; after the first ones it says so and waits for a line. */
const CLIENT = `
import socket, sys
request, end = (text.encode().decode("unicode_escape").encode() for text in sys.argv[2:4])
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 20)
def ask(count):
    for _ in range(count):
        connection.sendall(request)
        answer = b""
        while not answer.endswith(end):
            piece = connection.recv(65536)
            if not piece: sys.exit("closed after " + repr(answer))
            answer += piece
ask(20)
print("warm", flush=True)
sys.stdin.readline()
ask(${REQUESTS})
print("done", flush=True)
sys.stdin.readline()
`;

type Server = {
  readonly needs: readonly Requirement[];
  readonly command: (port: number, folder: string) => readonly string[];
  readonly request: string;
  readonly end: string;
  /** Calls that it makes for each answer, all at its end; none where it is left out. */
  readonly trapsEach?: number;
};

/** @param http  inside of http { } */
function nginx(port: number, folder: string, http: string): string[] {
  const temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(
    (name) => `${name}_temp_path ${folder}/${name};`,
  );
  mkdirSync(join(folder, "root"), { mode: 0o755 });
  writeFileSync(join(folder, "root", "index.html"), "hello\n");
  writeFileSync(
    join(folder, "conf"),
    `${process.getuid?.() === 0 ? "user root;" : ""} daemon off; pid ${folder}/pid; error_log ${folder}/error.log;
events { } http { access_log off; ${temp.join(" ")} server { listen 127.0.0.1:${port}; ${http} } }\n`,
  );
  return ["nginx", "-p", folder, "-c", join(folder, "conf")];
}

const GET = "GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n";
const NGINX = [requires.program("nginx", "nginx-light")];
const NODE =
  "require('http').createServer({ keepAliveTimeout: 0 }, (_, answer) => answer.end('hello\\n')).listen(+process.argv[1], '127.0.0.1')";

const SERVERS: Readonly<Record<string, Server>> = {
  nginx: {
    needs: NGINX,
    command: (port, folder) => nginx(port, folder, 'location / { return 200 "hello\\n"; }'),
    request: GET,
    end: "hello\\n",
  },
  "nginx, files": {
    needs: NGINX,
    command: (port, folder) => nginx(port, folder, `root ${folder}/root; sendfile on;`),
    request: GET,
    end: "hello\\n",
  },
  "nginx, files, tcp_nopush": {
    needs: NGINX,
    command: (port, folder) => nginx(port, folder, `root ${folder}/root; sendfile on; tcp_nopush on;`),
    request: GET,
    end: "hello\\n",
    trapsEach: 2, // TCP_CORK is set and cleared
  },
  redis: {
    needs: [requires.program("redis-server", "redis-server")],
    command: (port) => ["redis-server", "--port", String(port), "--bind", "127.0.0.1", "--save", ""],
    request: "PING\\r\\n",
    end: "+PONG\\r\\n",
  },
  memcached: {
    needs: [requires.program("memcached", "memcached")],
    command: (port) => ["memcached", "-u", "nobody", "-l", "127.0.0.1", "-p", String(port)],
    request: "get key\\r\\n",
    end: "END\\r\\n",
  },
  node: {
    needs: [requires.program("node", "nodejs")],
    command: (port) => ["node", "-e", NODE, String(port)],
    request: GET,
    end: "hello\\n",
  },
};

function trapsIn(file: string): string[] {
  const records = readFileSync(file, "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  return records.filter(({ event }) => event === "trap").map(({ call }) => call as string);
}

for (const [name, { needs, command, request, end, trapsEach = 0 }] of Object.entries(SERVERS)) {
  requires.test(
    [python, ...needs],
    `${REQUESTS} requests to ${name} over one connection cause ${trapsEach === 0 ? "no" : REQUESTS * trapsEach} trapped calls`,
    async () => {
      await using cli = new Cli(BUN);
      const port = freePort();
      const traces = [join(cli.directory, "server.trace"), join(cli.directory, "client.trace")];
      const path = `${process.env["PATH"]}:/usr/sbin`;
      const wrap = (trace: string | undefined, ...words: string[]): ReturnType<Cli["start"]> =>
        cli.start(["wrap", `--trace=${trace}`, "--", ...words], { env: { PATH: path } });
      const server = wrap(traces[0], ...command(port, cli.directory));
      await cli.listening(port);
      const client = wrap(traces[1], "python3", "-c", CLIENT, String(port), request, end);
      let said = "";
      client.child.stdout?.on("data", (data: Buffer) => {
        said += data;
      });
      // A program may call once more after what it says, and that is written down after its answer: when the programs sleep
      // all calls are made, and when both supervisors sleep then, all are written.
      const written = async (): Promise<void> => {
        const supervisors = [server, client].map(({ child }) => child.pid as number);
        for (const pid of [...supervisors.flatMap(descendants), ...supervisors]) await quiet(pid);
      };
      await until("the first answers", () => said.includes("warm"));
      await written();
      const before = traces.map(trapsIn);
      client.child.stdin?.write("\n");
      await until("the other answers", () => said.includes("done"));
      await written();
      const added = traces.map((trace, index) => trapsIn(trace).slice(before[index]?.length));
      expect(added).toEqual([Array(REQUESTS * trapsEach).fill("setsockopt"), []]);
      expect(before[1]?.includes("connect")).toBe(true);
      client.child.stdin?.end("\n");
      expect((await client.result).code).toBe(0);
      server.child.kill();
      await server.result;
    },
    60_000,
  );
}

/** A broker that ends under wrapped programs: they are found again, whoever starts the next one. */
import { expect } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Entry } from "../../lib/client/broker-link.ts";
import { FailureError } from "../../lib/errors.ts";
import { CHECKOUT, isRunning, TestBroker, waitUntil } from "../helpers/broker.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { sleepsThrough } from "../helpers/process-state.ts";
import { requires } from "../helpers/requires.ts";
import { brokersAt, endBroker, Staying } from "../helpers/staying.ts";
import { freePort } from "../helpers/wrapped.ts";

expectNoFdLeaks();
const python = requires.program("python3", "python3");
const curl = requires.program("curl", "curl");

/** Connects to its argument once for each line that it reads, and says what it got. */
const CLIENT = `
import socket, sys
for line in sys.stdin:
    with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as s:
        s.sendall(b"GET /file HTTP/1.0\\r\\n\\r\\n")
        print(s.makefile("rb").read().split(b"\\r\\n\\r\\n")[1].decode(), flush=True)
`;

/** The listener on that port as the broker knows it; without a broker, or before it is asked to, nobody starts one. */
function listed(broker: TestBroker, port: number): Entry | undefined {
  try {
    using link = broker.connect({ start: false });
    return link.list().find(({ kind, details }) => kind === "listener" && details["port"] === port);
  } catch (error) {
    if (error instanceof FailureError && error.code === "no-broker") return undefined;
    throw error;
  }
}

const isListed = (broker: TestBroker, port: number): Promise<void> =>
  waitUntil(() => listed(broker, port) !== undefined, `a listener on port ${port} in the listing`);

function serve(broker: TestBroker, port: number, ...flags: string[]): Staying {
  writeFileSync(join(broker.directory, "file"), "content");
  const words = ["wrap", ...flags, "--", "python3", "-m", "http.server", "--bind", "127.0.0.1", String(port)];
  return new Staying(broker, ...words);
}

function parentOf(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, "latin1");
  return Number(/^PPid:\s*(\d+)/m.exec(status)?.[1]);
}

const wentToUnix = (text: string): number =>
  Number(/connect\s+127\.0\.0\.1:\d+\s+(\d+)\s+to \/\S+\.tcp\s/.exec(text)?.[1] ?? 0);

for (const signal of ["SIGKILL", "SIGTERM"] as const) {
  requires.test(
    [python, curl],
    `after ${signal} to the broker a wrapped server is in the listing again, and wrapped clients, old and new, reach its Unix socket`,
    async () => {
      await using broker = new TestBroker();
      const port = freePort();
      await using server = serve(broker, port, "-v");
      await isListed(broker, port);
      const client = new Staying(broker, "wrap", "-v", "--explain", "--", "python3", "-c", CLIENT, String(port));
      await using _client = client;
      client.child.stdin?.write("\n");
      await waitUntil(() => client.stdout === "content\n", "an answer before");
      const before = listed(broker, port);
      const ended = await endBroker(broker, signal);
      await isListed(broker, port);
      expect(brokersAt(broker.socketPath)).not.toContain(ended);
      const after = listed(broker, port);
      expect(after?.details).toMatchObject({ path: before?.details["path"], address: "127.0.0.1", program: "python3" });
      expect(after?.details["connections"]).toMatchObject({ unix: 1, tcp: 0 }); // counted on
      await waitUntil(() => client.stderr.includes("Connected to a broker again"), "the client's supervisor");
      client.child.stdin?.end("\n");
      await waitUntil(() => client.closed, "the client to end");
      expect(client.stdout).toBe("content\ncontent\n");
      expect(wentToUnix(client.stderr), client.stderr).toBe(2);
      const fetched = await broker.run(["wrap", "--explain", "--", "curl", "-sS", `http://127.0.0.1:${port}/file`]);
      expect(fetched.stdout).toBe("content");
      expect(wentToUnix(fetched.stderr), fetched.stderr).toBe(1);
      expect(server.stderr).toContain("The broker has ended: looking for the next one");
      await waitUntil(() => brokersAt(broker.socketPath).length === 1, "there to be one broker"); // see endBroker()
    },
    60_000,
  );
}

requires.test(
  [python],
  "two wraps and several commands that race for the next broker end up with one",
  async () => {
    await using broker = new TestBroker();
    const ports = [freePort(), freePort()];
    await using _first = serve(broker, ports[0] ?? 0);
    await using _second = serve(broker, ports[1] ?? 0);
    for (const port of ports) await isListed(broker, port);
    for (const signal of ["SIGKILL", "SIGTERM", "SIGKILL"] as const) {
      await endBroker(broker, signal);
      const lists = await Promise.all(Array.from({ length: 4 }, () => broker.run(["ls", "--json"])));
      expect(lists.map(({ code, stderr }) => ({ code, stderr }))).toEqual(lists.map(() => ({ code: 0, stderr: "" })));
      for (const port of ports) await isListed(broker, port);
      await waitUntil(() => brokersAt(broker.socketPath).length === 1, "one broker to be left");
    }
  },
  120_000,
);

requires.test(
  [python],
  "a program that begins to listen while no broker can be had is registered with the one that comes",
  async () => {
    await using broker = new TestBroker();
    const port = freePort();
    const script = `import sys, http.server as h
print("ready", flush=True)
sys.stdin.readline()
h.ThreadingHTTPServer(("127.0.0.1", ${port}), h.SimpleHTTPRequestHandler).serve_forever()`;
    await using server = new Staying(broker, "wrap", "-v", "--", "python3", "-c", script);
    await waitUntil(() => server.stdout === "ready\n", "the program");
    writeFileSync(broker.configPath, "[broker\n"); // none can start now
    await endBroker(broker, "SIGKILL");
    server.child.stdin?.write("\n");
    await waitUntil(() => server.stderr.includes("Handed off"), "the program to listen");
    await waitUntil(() => server.stderr.includes("it is tried again"), "word of what is wrong");
    expect(server.stderr).toContain("Cannot start a broker");
    writeFileSync(broker.configPath, "");
    await isListed(broker, port);
  },
  60_000,
);

requires.test(
  [python],
  "what the next broker refuses is said once and not asked for again, and the program serves plain TCP on",
  async () => {
    await using broker = new TestBroker();
    const port = freePort();
    await using server = serve(broker, port);
    await isListed(broker, port);
    writeFileSync(broker.configPath, '[[deny]]\naction = "register"\n');
    await endBroker(broker, "SIGKILL");
    await waitUntil(() => server.stderr.includes("Wrapped clients do not find"), "the refusal to be said");
    expect(listed(broker, port)).toBeUndefined();
    expect(await (await fetch(`http://127.0.0.1:${port}/file`)).text()).toBe("content");
    await endBroker(broker, "SIGKILL"); // the one after that is not asked
    await waitUntil(() => brokersAt(broker.socketPath).length === 1, "the next broker");
    using link = broker.connect();
    await waitUntil(() => link.list().find(({ kind }) => kind === "broker")?.details["sessions"] === 2, "the wrap");
    expect(server.stderr.match(/Wrapped clients do not find/g)).toHaveLength(1);
  },
  60_000,
);

requires.test(
  [],
  "a broker that wrap has started is none of its program's: signals for what the program left behind pass it by",
  async () => {
    await using broker = new TestBroker();
    await using wrap = new Staying(broker, "wrap", "-v", "--", "sh", "-c", "sleep 1000 & echo $!; read line");
    await waitUntil(() => wrap.stdout.endsWith("\n"), "the program");
    await endBroker(broker, "SIGKILL");
    await waitUntil(() => wrap.stderr.includes("Connected to a broker again"), "the wrap to start the next one");
    const [pid = 0] = brokersAt(broker.socketPath);
    const isChild = (of: number): boolean => parentOf(of) === wrap.child.pid;
    expect(isChild(pid)).toBe(true);
    const sleeper = Number(wrap.stdout);
    expect(isChild(sleeper)).toBe(false);
    wrap.child.stdin?.end("\n");
    await waitUntil(() => isChild(sleeper), "the shell to end");
    wrap.child.kill("SIGTERM");
    await waitUntil(() => wrap.closed, "wrap to end");
    expect([isRunning(sleeper), isRunning(pid)]).toEqual([false, true]);
  },
  60_000,
);

requires.test(
  [],
  "a wrap that has found the next broker is never woken while nothing happens",
  async () => {
    await using broker = new TestBroker();
    await using wrap = new Staying(broker, "wrap", "-v", "--", "sh", "-c", "echo ready; read line");
    await waitUntil(() => wrap.stdout === "ready\n", "the program");
    await endBroker(broker, "SIGKILL");
    await waitUntil(() => wrap.stderr.includes("Connected to a broker again"), "the next broker");
    await sleepsThrough(wrap.child.pid ?? 0);
  },
  60_000,
);

requires.test(
  [],
  "a wrap whose connection was handed down says that it has none any more, and takes no other",
  async () => {
    await using broker = new TestBroker();
    const inner = [process.execPath, join(CHECKOUT, "bin", "shmlink.ts"), "wrap", "--", "sh", "-c"];
    await using run = new Staying(broker, "run", "--grant=listen:*", "--", ...inner, "echo ready; read line");
    await waitUntil(() => run.stdout === "ready\n", "the program");
    await endBroker(broker, "SIGKILL");
    await waitUntil(() => run.stderr.includes("Without a broker from now on: it has ended"), "word of it");
    expect(brokersAt(broker.socketPath)).toEqual([]);
    run.child.stdin?.end("\n");
    await waitUntil(() => run.closed, "the program to end");
    expect(run.child.exitCode).toBe(0);
  },
  60_000,
);

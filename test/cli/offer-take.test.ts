/** `shmlink offer` and `shmlink take` with real programs: files, listeners, connections, across network namespaces. */
import { expect, test } from "bun:test";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { pipe } from "../../ffi/mod.ts";
import type { BrokerLink } from "../../lib/client/broker-link.ts";
import { listenOn } from "../../lib/transport/socket-path.ts";
import { CHECKOUT, TestBroker, waitUntil } from "../helpers/broker.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { requires } from "../helpers/requires.ts";

expectNoFdLeaks();

const ENTRY = join(CHECKOUT, "bin", "shmlink.ts");
const ROOT_OR_USERNS = requires.feature(canUnshare(), "this user may not make a network namespace");

function canUnshare(): boolean {
  try {
    execFileSync("unshare", ["-rn", "true"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

/** A program that runs beside the test, its output kept; killed at the end. */
class Background implements AsyncDisposable {
  readonly child: ChildProcess;
  output = "";
  code: number | null | undefined;

  constructor(broker: TestBroker, words: readonly string[], extra: Readonly<Record<string, string>> = {}) {
    const [program = "", ...args] = words;
    this.child = spawn(program, args, { env: { ...broker.env, ...extra }, stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [this.child.stdout, this.child.stderr])
      stream?.on("data", (chunk: Buffer) => {
        this.output += chunk.toString();
      });
    this.child.on("close", (code) => {
      this.code = code;
    });
  }

  async end(): Promise<void> {
    await waitUntil(() => this.code !== undefined, `the end of ${this.child.spawnargs.join(" ")}: ${this.output}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.code === undefined) this.child.kill("SIGTERM");
    await this.end();
  }
}

function shmlink(broker: TestBroker, ...args: string[]): Background {
  return new Background(broker, [process.execPath, ENTRY, ...args]);
}

/** Those that are connected to the broker, `link` among them. */
function connectionsOf(link: BrokerLink): number {
  return Number(link.list().find(({ kind }) => kind === "broker")?.details["sessions"]);
}

/** The port that `shmlink offer --tcp=…:0` says it has. */
async function portOf(offer: Background): Promise<number> {
  await waitUntil(() => /:(\d+)\n/.test(offer.output) || offer.code !== undefined, "the address");
  const port = Number(/:(\d+)\n/.exec(offer.output)?.[1]);
  if (!(port > 0)) throw new Error(offer.output);
  return port;
}

/** Connects to a port or path, sends, ends its side if told to, and reads to the end. */
async function exchange(at: number | string, text: string, end = true): Promise<string> {
  let answer = "";
  let ended = false;
  const place = typeof at === "number" ? { port: at, host: "127.0.0.1" } : { path: at };
  const socket: Socket = connect({ ...place, allowHalfOpen: true });
  socket.on("data", (chunk: Buffer) => {
    answer += chunk.toString();
  });
  for (const event of ["end", "error", "close"]) socket.on(event, () => (ended = true));
  if (end) socket.end(text);
  else socket.write(text);
  await waitUntil(() => ended, `the end of the connection, after ${JSON.stringify(answer)}`);
  socket.destroy();
  await waitUntil(() => socket.closed || socket.destroyed, "the socket to be closed");
  return answer;
}

test("an open file goes to a program of another process, from descriptor 3 on, as systemd would pass it", async () => {
  await using broker = new TestBroker();
  const path = join(broker.directory, "log");
  writeFileSync(path, "before\n");
  await using offer = new Background(broker, [
    "sh",
    "-c",
    `exec 9>>${path} 8<&9; exec "$0" "$@"`,
    process.execPath,
    ENTRY,
    "offer",
    "logs",
    "--fd=9,8",
  ]);
  const script = 'echo "$LISTEN_FDS $LISTEN_FDNAMES $([ $LISTEN_PID = $$ ] && echo own)" >&3; echo second >&4; exit 7';
  await using take = shmlink(broker, "take", "logs", "--wait=20", "--", "sh", "-c", script);
  await take.end();
  expect(take.output).toBe("");
  expect(take.code).toBe(7);
  expect(readFileSync(path, "utf8")).toBe("before\n2 logs:logs own\nsecond\n");
  await offer.end(); // it was taken
  expect(offer.code).toBe(0);
});

test("take looks for its program first: nothing is taken for one that cannot run", async () => {
  await using broker = new TestBroker();
  using link = broker.connect();
  using offer = link.offer("x");
  const { reader, writer } = pipe();
  offer.publish([reader]);
  for (const [program, code] of [
    ["/nowhere/program", 127],
    ["/etc/passwd", 126],
  ] as const) {
    const { stderr, ...ended } = await broker.run(["take", "x", "--", program]);
    expect(ended.code).toBe(code);
    expect(stderr).toStartWith(`shmlink: Cannot run "${program}"`);
  }
  using delivery = link.take("x", { waitMs: 0 });
  expect(delivery.fds).toHaveLength(1);
  for (const fd of [reader, writer]) fd.close();
});

test("with --keep everyone gets a copy, until the offer is ended", async () => {
  await using broker = new TestBroker();
  const path = join(broker.directory, "kept");
  await using offer = new Background(broker, [
    "sh",
    "-c",
    `exec 9>>${path}; exec "$0" "$@"`,
    process.execPath,
    ENTRY,
    "offer",
    "kept",
    "--fd=9",
    "--keep",
  ]);
  for (const word of ["one", "two"]) {
    await using take = shmlink(broker, "take", "kept", "--wait=20", "--", "sh", "-c", `echo ${word} >&3`);
    await take.end();
    expect(take.code).toBe(0);
  }
  expect(readFileSync(path, "utf8")).toBe("one\ntwo\n");
  offer.child.kill("SIGTERM");
  await offer.end();
  expect(offer.code).toBe(143);
});

test("offer, take --keep and context end with 128 + n when signal n ends them, and not by one that was ignored", async () => {
  await using broker = new TestBroker();
  using link = broker.connect();
  const path = join(broker.directory, "context.sock");
  const staying: readonly (readonly string[])[] = [
    ["offer", "stays", "--fd=9", "--keep"],
    ["take", "nothing", "--keep", "--", "true"],
    ["context", "create", "--engine=e", "--app=a", "--instance=i", `--path=${path}`],
  ];
  const isListed = ([command]: readonly string[]): boolean =>
    command === "offer"
      ? link.list("stays").length > 0
      : command === "context"
        ? link.list("e/a/i").length > 0
        : connectionsOf(link) > 1;
  for (const words of staying) {
    for (const [signal, code] of [
      ["SIGINT", 130],
      ["SIGTERM", 143],
    ] as const) {
      const launched = [
        "sh",
        "-c",
        `exec 9>>${path}.log; trap "" HUP; exec "$0" "$@"`,
        process.execPath,
        ENTRY,
        ...words,
      ];
      await using command = new Background(broker, launched);
      await waitUntil(() => isListed(words), `${words[0]} to be there`);
      command.child.kill("SIGHUP");
      command.child.kill(signal);
      await command.end();
      expect([words[0], command.code]).toEqual([words[0], code]);
      await waitUntil(() => connectionsOf(link) === 1, "its connection to go");
    }
  }
});

const PROXY = "/lib/systemd/systemd-socket-proxyd";

requires.test(
  [requires.file(PROXY, "systemd")],
  "an unmodified server takes its listener from another process through LISTEN_FDS",
  async () => {
    await using broker = new TestBroker();
    const upstream = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      fetch: () => new Response("from behind the listener"),
    });
    try {
      await using offer = shmlink(broker, "offer", "web", "--tcp=127.0.0.1:0", "--listener");
      const port = await portOf(offer);
      await using take = shmlink(broker, "take", "web", "--wait=20", "--", PROXY, `127.0.0.1:${upstream.port}`);
      await offer.end(); // the listener lives in the server alone now
      expect(await exchange(port, "GET / HTTP/1.0\r\n\r\n", false)).toEndWith("from behind the listener");
      expect(await exchange(port, "GET / HTTP/1.0\r\n\r\n", false)).toEndWith("from behind the listener");
      expect(take.code).toBeUndefined();
    } finally {
      await upstream.stop(true);
    }
  },
);

const PLAIN_SERVER = `
import os, socket
isBlocking = os.get_blocking(3)
connection, _ = socket.socket(fileno=3).accept()
connection.sendall(b"blocking" if isBlocking else b"not blocking")
`;

for (const kind of ["tcp", "unix"] as const)
  requires.test(
    [requires.file("/usr/bin/python3", "python3")],
    `a server that waits in accept() takes a listener of --${kind}`,
    async () => {
      await using broker = new TestBroker();
      const path = join(broker.directory, "front.sock");
      const address = kind === "tcp" ? "--tcp=127.0.0.1:0" : `--unix=${path}`;
      await using offer = shmlink(broker, "offer", "plain", address, "--listener");
      const at = kind === "tcp" ? await portOf(offer) : path;
      await using take = shmlink(broker, "take", "plain", "--wait=20", "--", "/usr/bin/python3", "-c", PLAIN_SERVER);
      await offer.end();
      expect(await exchange(at, "")).toBe("blocking");
      await take.end();
      expect(take.output).toBe("");
      expect(take.code).toBe(0);
    },
  );

requires.test(
  [ROOT_OR_USERNS],
  "a TCP connection moves to a process that has no network namespace in common",
  async () => {
    await using broker = new TestBroker();
    await using offer = shmlink(broker, "offer", "conn", "--tcp=127.0.0.1:0");
    const port = await portOf(offer);
    const script = "readlink /proc/self/ns/net; ls /sys/class/net >/dev/null; exec cat";
    const words = [
      "unshare",
      "-rn",
      process.execPath,
      ENTRY,
      "take",
      "conn",
      "--keep",
      "--stdio",
      "--",
      "sh",
      "-c",
      script,
    ];
    await using take = new Background(broker, words);
    const answers = await Promise.all([exchange(port, "first"), exchange(port, "second")]);
    const own = execFileSync("readlink", ["/proc/self/ns/net"], { encoding: "utf8" });
    for (const [index, answer] of answers.entries()) {
      const [namespace, text] = answer.split("\n");
      expect(namespace).toMatch(/^net:\[\d+\]$/);
      expect(`${namespace}\n`).not.toBe(own);
      expect(text).toBe(["first", "second"][index]);
    }
    expect(take.code).toBeUndefined();
  },
);

test("--unix passes on connections to a path, which is gone afterwards", async () => {
  await using broker = new TestBroker();
  const path = join(broker.directory, "front.sock");
  await using offer = shmlink(broker, "offer", "front", `--unix=${path}`);
  await waitUntil(() => offer.output.includes("connections at"), "the socket");
  await using _take = shmlink(broker, "take", "front", "--keep", "--stdio", "--", "cat");
  let answer = "";
  const socket = connect({ path, allowHalfOpen: true });
  socket.on("data", (chunk: Buffer) => {
    answer += chunk.toString();
  });
  socket.end("echoed");
  await waitUntil(() => answer === "echoed", "the echo");
  socket.destroy();
  offer.child.kill("SIGINT");
  await offer.end();
  expect(offer.code).toBe(130);
  expect(() => readFileSync(path)).toThrow(/ENOENT/);
});

test("--peek=http sends each connection, whole, to who takes the host that it names", async () => {
  await using broker = new TestBroker();
  await using offer = shmlink(broker, "offer", "web", "--tcp=127.0.0.1:0", "--peek=http");
  const port = await portOf(offer);
  const serve = (host: string): Background =>
    shmlink(broker, "take", `web/${host}`, "--keep", "--stdio", "--", "sh", "-c", `echo ${host}; exec cat`);
  await using _one = serve("one.test");
  await using _two = serve("two.test");
  const ask = (host: string): string => `GET /x HTTP/1.1\r\nAccept: */*\r\nHost: ${host}\r\n\r\n`;
  expect(await exchange(port, ask("one.test"))).toBe(`one.test\n${ask("one.test")}`);
  expect(await exchange(port, ask("TWO.test:80"))).toBe(`two.test\n${ask("TWO.test:80")}`);
  expect(await exchange(port, "not http at all\r\n\r\n", false)).toBe("");
  expect(await exchange(port, "GET / HTTP/1.0\r\n\r\n", false)).toBe("");
  expect(await exchange(port, `GET /${"x".repeat(20_000)}`, false)).toBe("");
  expect(await exchange(port, "GET / HTT")).toBe(""); // ended in the middle
  await waitUntil(() => offer.output.split("disconnected a client").length === 5, "four complaints");
  expect(await exchange(port, ask("one.test"))).toStartWith("one.test"); // and it still serves
});

test("--peek says why it disconnects a few clients, and counts the others", async () => {
  await using broker = new TestBroker();
  await using offer = shmlink(broker, "offer", "web", "--tcp=127.0.0.1:0", "--peek=http");
  const port = await portOf(offer);
  const answers = await Promise.all(Array.from({ length: 200 }, () => exchange(port, "no http\r\n\r\n", false)));
  expect(answers).toEqual(Array(200).fill(""));
  offer.child.kill("SIGTERM");
  await offer.end();
  const said = [...offer.output.matchAll(/^shmlink: disconnected a client: its beginning names no host$/gm)].length;
  const leftOut = [...offer.output.matchAll(/^shmlink: Left out (\d+) lines?: .*$/gm)].map(([, count]) =>
    Number(count),
  );
  expect(leftOut.reduce((sum, count) => sum + count, said)).toBe(200);
  expect(leftOut.length).toBeGreaterThan(0);
});

const TLS_SERVER = `
import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
with context.wrap_socket(socket.socket(fileno=3), server_side=True) as tls:
    tls.sendall(b"secret for " + sys.argv[3].encode() + b"\\n")
    tls.unwrap()
`;
const TLS = [requires.program("openssl", "openssl"), requires.file("/usr/bin/python3", "python3")];

requires.test(
  TLS,
  "--peek=tls sends each connection to who takes its server name, and the handshake is theirs",
  async () => {
    await using broker = new TestBroker();
    const [key, certificate] = ["key.pem", "cert.pem"].map((name) => join(broker.directory, name)) as [string, string];
    execFileSync(
      "openssl",
      ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=one.test", "-keyout", key, "-out", certificate],
      { stdio: "ignore" },
    );
    const server = join(broker.directory, "server.py");
    writeFileSync(server, TLS_SERVER);
    await using offer = shmlink(broker, "offer", "tls", "--tcp=127.0.0.1:0", "--peek=tls");
    const port = await portOf(offer);
    const serve = (host: string): Background =>
      shmlink(broker, "take", `tls/${host}`, "--keep", "--", "/usr/bin/python3", server, certificate, key, host);
    await using _one = serve("one.test");
    await using _two = serve("two.test");
    for (const host of ["one.test", "two.test"]) {
      await using client = new Background(broker, [
        "openssl",
        "s_client",
        "-quiet",
        "-connect",
        `127.0.0.1:${port}`,
        "-servername",
        host,
      ]);
      await waitUntil(() => client.output.includes("secret"), `the answer of ${host}`);
      expect(client.output).toContain(`secret for ${host}`);
    }
  },
);

test("an offer says its IPv6 address in the usual form", async () => {
  await using broker = new TestBroker();
  await using offer = shmlink(broker, "offer", "web", "--tcp=[0:0:0:0:0:0:0:1]:0");
  const port = await portOf(offer);
  expect(offer.output).toBe(`shmlink: offering "web": connections at [::1]:${port}\n`);
});

test("what cannot be is refused with a sentence and code 2, before anything is tried", async () => {
  await using broker = new TestBroker();
  for (const [words, message] of [
    [["offer", "x"], /exactly one of --fd=/],
    [["offer", "x", "--fd=99"], /--fd "99": it is not open here/],
    [["offer", "x", "--fd=a"], /--fd "a": numbers are wanted/],
    [["offer", "x", `--fd=${"0,".repeat(28)}0`], /28 descriptors are the most/],
    [["offer", "x", "--fd=0", "--tcp=127.0.0.1:0"], /exactly one of --fd=/],
    [["offer", "x", "--unix=/x", "--keep"], /Cannot use --keep with connections/],
    [["offer", "x", "--unix=/x", "--listener", "--peek=tls"], /Cannot use --peek with --listener/],
    [["offer", "x", "--tcp=example"], /ADDRESS:PORT is wanted/],
    [["offer", "x", "--tcp=[fe80::1%lo]:80"], /ADDRESS:PORT is wanted/],
    [["offer", "x", "--tcp=127.0.0.1:0", "--peek=ftp"], /http or tls is wanted/],
    [["offer", "x", "--fd=0", "--peek=http"], /about connections/],
    [["take", "x"], /Missing program/],
    [["take"], /Missing argument: "shmlink take" needs NAME/],
  ] as const) {
    const { code, stderr } = await broker.run(words);
    expect(stderr).toMatch(message);
    expect(code).toBe(2);
  }
  const nobody = await broker.run(["take", "nothing", "--wait=0", "--", "true"]);
  expect(nobody).toMatchObject({
    code: 1,
    stderr:
      'shmlink: Cannot take "nothing": nobody offers this name; run "shmlink offer nothing …" there, or wait for it with --wait=SECONDS\n',
  });
});

test("where nobody can listen, offer says why and what to do", async () => {
  await using broker = new TestBroker();
  const at = (name: string): string => join(broker.directory, name);
  using live = listenOn(at("live"));
  await using server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  writeFileSync(at("file"), "");
  for (const [word, message] of [
    [`--tcp=127.0.0.1:${port}`, "the port is in use (EADDRINUSE); end the process that has it, or give another port"],
    ["--tcp=192.0.2.1:0", "this machine has no such address (EADDRNOTAVAIL); give one of its own"],
    [`--unix=${at("live")}`, "another process's socket is there (EADDRINUSE); end that process, or give another path"],
    [`--unix=${at("file")}`, "something is there that is no socket (EADDRINUSE); remove it, or give another path"],
    [`--unix=${at("no/s")}`, "its directory does not exist (ENOENT); make it, or give another path"],
    [`--unix=${at("file/s")}`, "what is above it is no directory (ENOTDIR); give another path"],
    [`--unix=${at("x".repeat(108))}`, "bytes long, 107 is the most; give a shorter one"],
  ] as const) {
    const { stderr } = await broker.run(["offer", "web", word]);
    expect(stderr).toMatch(/^shmlink: Cannot (listen on|use path) ".*\n$/);
    expect(stderr).toContain(message);
  }
  expect([live.closed, statSync(at("file")).size]).toEqual([false, 0]); // both are left alone
});

test("an offer says that it is one when it is, not when it is refused", async () => {
  await using broker = new TestBroker('[[deny]]\naction = "offer"\n');
  for (const how of [[], ["--listener"]]) {
    const { code, stderr } = await broker.run(["offer", "web", "--tcp=127.0.0.1:0", ...how]);
    expect(stderr).toMatch(/^shmlink: Cannot offer "web": .*\n$/);
    expect(code).toBe(1);
  }
});

/** What the documentation lists as limits is so, and no more than that. */
import { expect } from "bun:test";
import { join } from "node:path";
import { Cli } from "../cli/fixture.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { giveAway, takeAs } from "../helpers/python-door.ts";
import { requires } from "../helpers/requires.ts";
import { BUN, ROOT } from "../helpers/runtimes.ts";
import { compileFixture, freePort, Running, Stage, until } from "../helpers/wrapped.ts";

expectNoFdLeaks();
const python = requires.program("python3", "python3");
const LIMIT_MS = 60_000;

requires.test(
  [python],
  "what a program can tell of a Unix socket, where it looks closely, is what is documented",
  async () => {
    await using stage = new Stage();
    const program = ["python3", join(ROOT, "test/fixtures/programs/limits.py")];
    const [native, wrapped] = [stage.plain(program), stage.wrap(program)];
    expect([await native.exit, await wrapped.exit], native.output + wrapped.output).toEqual([0, 0]);
    const answers = (running: Running): Record<string, string> =>
      Object.fromEntries(
        running.output
          .trim()
          .split("\n")
          .map((line) => line.split(": ")),
      );
    expect(answers(native)).toEqual({
      "first write to who has closed": "done",
      "read from who lingers not": "ECONNRESET",
      "unsent counts bytes": "True",
      "sender of data": "False",
      discarded: "--",
      "peer's process": "False",
      "send buffer as it was set": "True",
      "descriptors come with data": "False",
      "time stamps come with data": "True",
      "data sent with an address": "done",
      "error queue": "EAGAIN",
      "hang-up of who has closed": "False",
      "unknown level of options is ENOPROTOOPT": "True",
      "family of SO_PEERNAME": "True",
      "groups of the peer": "ENODATA",
      "processor of what came": "True",
      "address of an interface": "done",
      "what was not sent": "done",
      "urgent data counts as unread": "False",
      "TCP_INFO counts what was received": "True",
      "TCP_WINDOW_CLAMP of a connection": "True",
      "filter of a group": "done",
      "what IPv6 knows of the path": "done",
      "TCP_QUICKACK is anew after connect()": "True",
      "TCP_MAXSEG that is set later counts": "False",
      "queue of a listener": "EINVAL",
      "cookie as before": "True",
      "SO_RXQ_OVFL as it was set": "True",
      "SO_MAX_PACING_RATE as it was set": "True",
      "inherits what the listener was given after its first connection": "True",
    });
    expect(answers(wrapped)).toEqual({
      "first write to who has closed": "EPIPE",
      "read from who lingers not": "done",
      "unsent counts bytes": "False",
      "sender of data": "True",
      discarded: "cd",
      "peer's process": "True",
      "send buffer as it was set": "False",
      "descriptors come with data": "True",
      "time stamps come with data": "False",
      "data sent with an address": "EISCONN",
      "error queue": "done",
      "hang-up of who has closed": "True",
      "unknown level of options is ENOPROTOOPT": "False",
      "family of SO_PEERNAME": "False",
      "groups of the peer": "done",
      "processor of what came": "False",
      "address of an interface": "ENOTTY",
      "what was not sent": "ENOTTY",
      "urgent data counts as unread": "True",
      "TCP_INFO counts what was received": "False",
      "TCP_WINDOW_CLAMP of a connection": "False",
      "filter of a group": "EINVAL",
      "what IPv6 knows of the path": "ENOTCONN",
      "TCP_QUICKACK is anew after connect()": "False",
      "TCP_MAXSEG that is set later counts": "True",
      "queue of a listener": "done",
      "cookie as before": "False",
      "SO_RXQ_OVFL as it was set": "False",
      "SO_MAX_PACING_RATE as it was set": "False",
      "inherits what the listener was given after its first connection": "False",
    });
  },
  LIMIT_MS,
);

requires.test(
  [python],
  "TLS by the kernel is refused on a connection that is handed off, as where the kernel has none, and data goes on",
  async () => {
    await using stage = new Stage();
    const program = ["python3", join(ROOT, "test/fixtures/programs/ktls.py")];
    const [native, wrapped] = [stage.plain(program), stage.wrap(program)];
    expect([await native.exit, await wrapped.exit], native.output + wrapped.output).toEqual([0, 0]);
    expect(wrapped.output).toMatch(/^client E[A-Z]+$/m);
    expect(wrapped.output).toEndWith("b'still plain'\n");
    if (native.output.includes("client ENOENT")) expect(wrapped.output).toBe(native.output);
    expect(stage.registry.fallbacks()).toEqual([]);
  },
  LIMIT_MS,
);

requires.test(
  [requires.program("cc", "gcc")],
  "what connect() overlooks of a socket is what is documented",
  async () => {
    await using stage = new Stage();
    const program = [compileFixture("tcp-hard"), "overlooked"];
    const [native, wrapped] = [stage.plain(program), stage.wrap(program)];
    expect([await native.exit, await wrapped.exit], native.output + wrapped.output).toEqual([0, 0]);
    const lines = (running: Running): string[] =>
      running.output.split("\n").filter((line) => !/^(bind|listen): 0/.test(line));
    const told = (inFlight: string, events: number, shut: string, refused: string): string[] => [
      `in flight: ${inFlight}`,
      "talks: 1",
      `registered under a number that was closed: ${events}`,
      `shut before: ${shut}`,
      `refused before: ${refused}`,
      "",
    ];
    expect(lines(native)).toEqual(told("connected", 1, "EPIPE", "ECONNREFUSED"));
    expect(lines(wrapped)).toEqual(told("not connected", 0, "written", "connected"));
  },
  LIMIT_MS,
);

/** Shares a port and tells each client its name. */
const SHARING = `
import socket, sys
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
listener.bind(("127.0.0.1", int(sys.argv[1])))
listener.listen(64)
print("listening", flush=True)
while True:
    connection, _ = listener.accept()
    connection.sendall(sys.argv[2].encode())
    connection.close()
`;

const ASKING = `
import socket, sys
names = []
for _ in range(int(sys.argv[2])):
    with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 10) as s: names.append(s.recv(10).decode())
print(" ".join(sorted(set(names))))
`;

requires.test(
  [python],
  "SO_REUSEPORT across two wraps: plain clients reach both, wrapped ones the first, and the other when that has ended",
  async () => {
    await using stage = new Stage();
    const port = freePort();
    const serve = (name: string): Running => stage.wrap(["python3", "-u", "-c", SHARING, String(port), name]);
    const ask = async (isWrapped: boolean): Promise<string> => {
      const command = ["python3", "-c", ASKING, String(port), "60"];
      const asking = isWrapped ? stage.wrap(command) : stage.plain(command);
      expect(await asking.exit, asking.output).toBe(0);
      return asking.output;
    };
    const first = serve("first");
    await first.match(/listening/);
    const second = serve("second");
    await second.match(/listening/);
    expect(await ask(false)).toBe("first second\n");
    expect(await ask(true)).toBe("first\n");
    first.child.kill();
    await first.exit;
    expect([await ask(false), await ask(true)]).toEqual(["second\n", "second\n"]);
    second.child.kill();
    await second.exit;
  },
  LIMIT_MS,
);

/** Hands sockets of its own to the program that its arguments start: a listener, one that is bound, and a new one. */
const GIVING = `
import socket, subprocess, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
bound = socket.socket()
bound.bind(("127.0.0.1", int(sys.argv[2])))
fresh = socket.socket()
numbers = [s.fileno() for s in (listener, bound, fresh)]
child = subprocess.Popen(sys.argv[3:] + [str(n) for n in numbers], pass_fds=numbers)
for s in (listener, bound, fresh): s.close()
sys.exit(child.wait())
`;

const TAKING = `
import socket, sys
listener, bound, fresh = (socket.socket(fileno=int(n)) for n in sys.argv[1:])
bound.listen()
print("listening", flush=True)
for each in (listener, listener, bound, bound):
    connection, address = each.accept()
    connection.sendall(b"hello")
    print("from", address[0], "at", connection.getsockname()[1], flush=True)
fresh.connect(bound.getsockname())
peer, address = bound.accept()
print("own", address == fresh.getsockname())
`;

const GREETED = `
import socket, sys
print(socket.create_connection(("127.0.0.1", int(sys.argv[1])), 10).recv(10).decode())
`;

requires.test(
  [python],
  "sockets from before the filter: a listener stays on TCP, one that was only bound and a new one are handed off",
  async () => {
    await using cli = new Cli(BUN);
    const [first, second] = [freePort(), freePort()];
    const env = Object.entries(cli.env).flatMap(([name, value]) => (value === undefined ? [] : [`${name}=${value}`]));
    const wrap = ["env", ...env, join(ROOT, "bin/shmlink"), "wrap", "--explain", "--", "python3", "-c", TAKING];
    const giving = ["python3", "-c", GIVING, String(first), String(second), ...wrap];
    const server = new Running(giving, cli.directory);
    await server.match(/listening/);
    for (const port of [first, second]) {
      const plain = new Running(["python3", "-c", GREETED, String(port)], cli.directory);
      expect([await plain.exit, plain.output]).toEqual([0, "hello\n"]);
      const wrapped = await cli.run(["wrap", "--explain", "--", "python3", "-c", GREETED, String(port)]);
      expect([wrapped.code, wrapped.text]).toEqual([0, "hello\n"]);
      expect(wrapped.stderr).toMatch(port === first ? /connect .* over plain TCP/ : /connect .* to \/\S+\.tcp/);
    }
    expect(await server.exit, server.output).toBe(0);
    const at = (port: number): string => `from 127.0.0.1 at ${port}\n`.repeat(2);
    expect(server.output).toStartWith(`listening\n${at(first)}${at(second)}own True\n`);
    expect(server.output).toMatch(new RegExp(`listen +127.0.0.1:${second} +1 +to /`));
    expect(server.output).toMatch(new RegExp(`connect +127.0.0.1:${second} +1 +to /`));
    expect(server.output).not.toMatch(new RegExp(`listen +127.0.0.1:${first}`));
  },
  LIMIT_MS,
);

/** Sends its end of a connection to whoever comes to a path, and goes on when that has looked at it. */
const PASSING = `
import array, socket, sys
listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname())
${giveAway("client")}`;

const RECEIVING = `
import array, socket, sys
${takeAs("received")}
print(received.family.name)
door.sendall(b"y")
`;

requires.test(
  [python],
  "a connection that is passed to a program outside of the tree is a bare Unix socket there, and TCP's within",
  async () => {
    await using stage = new Stage();
    for (const isWithin of [false, true]) {
      const path = join(stage.path, `door-${isWithin}`);
      const server = stage.wrap(["python3", "-u", "-c", PASSING, path]);
      await server.match(/ready/);
      const command = ["python3", "-c", RECEIVING, path];
      const receiver = isWithin ? stage.wrap(command) : stage.plain(command);
      expect([await receiver.exit, await server.exit], receiver.output).toEqual([0, 0]);
      expect(receiver.output).toBe(isWithin ? "AF_INET\n" : "AF_UNIX\n");
    }
  },
  LIMIT_MS,
);

/** A child that was forked before its parent connects keeps a TCP socket. */
const FORKED = `
import os, socket
listener = socket.create_server(("127.0.0.1", 0))
client = socket.socket()
said, told = os.pipe()
if os.fork() == 0:
    os.read(said, 1)
    try: print("child:", client.getpeername()[0])
    except OSError as error: print("child:", error.strerror)
    os._exit(0)
client.connect(listener.getsockname())
print("parent:", client.getpeername()[0], flush=True)
os.write(told, b"x")
os.wait()
`;

requires.test(
  [python],
  "a socket that another process inherited before connect() stays unconnected there",
  async () => {
    await using stage = new Stage();
    const running = stage.wrap(["python3", "-u", "-c", FORKED]);
    expect(await running.exit).toBe(0);
    await until("both", () => running.output.includes("child"));
    expect(running.output).toBe("parent: 127.0.0.1\nchild: Transport endpoint is not connected\n");
  },
  LIMIT_MS,
);

for (const [way, what] of [
  ["passed", "comes from another process"],
  ["exchanged", "has its number exchanged with another set's"],
] as const) {
  requires.test(
    [requires.program("cc", "gcc")],
    `a registration in an epoll set that ${what} is overlooked by a connect() at once, and by none a moment later`,
    async () => {
      await using stage = new Stage();
      const program = compileFixture("epoll-passed");
      const tell = async (running: Running): Promise<string | undefined> => {
        expect(await running.exit, running.output).toBe(0);
        return running.output.trim().split("\n").at(-1);
      };
      for (const ms of ["0", "600"]) {
        expect(await tell(stage.plain([program, way, ms]))).toBe("in time: 1, events: 1");
        expect(await tell(stage.wrap([program, way, ms]))).toBe(`in time: 1, events: ${ms === "0" ? 0 : 1}`);
      }
    },
    LIMIT_MS,
  );
}

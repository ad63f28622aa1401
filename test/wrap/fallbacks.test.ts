/** Whatever stands in the way of a Unix socket, the connection goes over TCP, and the reason is recorded. */
import { expect } from "bun:test";
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { requires } from "../helpers/requires.ts";
import { injecting } from "../helpers/strace.ts";
import { compileFixture, freePort, type Running, Stage } from "../helpers/wrapped.ts";

expectNoFdLeaks();
const python = requires.program("python3", "python3");

const SERVE = `
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("listening", flush=True)
listener.accept()[0].sendall(b"hello")
`;
const DIAL = `
import socket, sys, time
start = time.monotonic()
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 20)
print(s.recv(10).decode(), "late" if time.monotonic() - start > 0.09 else "soon")
`;

/** A path that a listing names, and where nobody can connect. `isWaitedFor`: its supervisor may be about to say so. */
type Obstacle = {
  readonly path: (folder: string) => string;
  readonly reason: RegExp;
  readonly isWaitedFor: boolean;
};

const PATHS: Readonly<Record<string, Obstacle>> = {
  "whose socket file is not there": {
    path: (folder) => join(folder, "nothing"),
    reason: /ENOENT|No such file/,
    isWaitedFor: true,
  },
  "whose socket nobody listens at": {
    path: (folder) => {
      const path = join(folder, "stale");
      const bind = `import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])`;
      Bun.spawnSync(["python3", "-c", bind, path]);
      return path;
    },
    reason: /ECONNREFUSED|refused/,
    isWaitedFor: true,
  },
  "whose path is too long": {
    path: (folder) => join(folder, "x".repeat(110)),
    reason: /bytes|long/,
    isWaitedFor: false,
  },
};

async function fallsBack({ path, reason, isWaitedFor }: Obstacle): Promise<void> {
  await using stage = new Stage();
  const port = freePort();
  const server = stage.plain(["python3", "-c", SERVE, String(port)]);
  await server.match(/listening/);
  const entry = { address: "127.0.0.1", port, path: path(stage.path), v6only: false, noTcp: false, pid: 1, id: 1 };
  writeFileSync(join(stage.path, "registry", `127.0.0.1_${port}.json`), JSON.stringify(entry));
  try {
    const client = stage.wrap(["python3", "-c", DIAL, String(port)]);
    expect(await client.exit).toBe(0);
    expect(client.output).toMatch(isWaitedFor ? /^hello late$/m : /^hello (soon|late)$/m); // its end may be on its way
    expect(stage.registry.fallbacks()).toEqual([expect.stringMatching(reason)]);
    expect(stage.registry.fallbacks()[0]).toStartWith(`127.0.0.1 ${port} `);
    const strict = stage.wrap(["python3", "-c", DIAL, String(port)], { flags: ["--rule=out,require"] });
    expect(await strict.exit).toBe(1);
    expect(strict.output).toContain("Connection refused");
  } finally {
    stage.registry.withdraw(port);
  }
}

for (const [what, obstacle] of Object.entries(PATHS)) {
  requires.test(
    [python],
    `a registered listener ${what}: plain TCP with the reason, or an error where that is forbidden`,
    () => fallsBack(obstacle),
  );
}

requires.test(
  [python, requires.ordinaryUser()],
  "a registered listener whose socket may not be opened: plain TCP with the reason",
  async () => {
    await using stage = new Stage();
    const port = freePort();
    const server = stage.plain(["python3", "-c", SERVE, String(port)]);
    await server.match(/listening/);
    const folder = join(stage.path, "closed");
    mkdirSync(folder);
    chmodSync(folder, 0);
    const path = join(folder, "socket");
    const entry = { address: "127.0.0.1", port, path, v6only: false, noTcp: false, pid: 1, id: 1 };
    writeFileSync(join(stage.path, "registry", `127.0.0.1_${port}.json`), JSON.stringify(entry));
    const client = stage.wrap(["python3", "-c", DIAL, String(port)]);
    expect([await client.exit, client.output]).toEqual([0, expect.stringContaining("hello")]);
    expect(stage.registry.fallbacks()).toEqual([expect.stringMatching(/EACCES/)]);
    stage.registry.withdraw(port);
    chmodSync(folder, 0o700);
  },
);

const TO_ITSELF = `
import socket
listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname())
print(listener.accept()[1] == client.getsockname())
`;

requires.test(
  [python],
  "a listener whose socket would have too long a path: plain TCP with the reason, or an error where that is forbidden",
  async () => {
    await using stage = new Stage();
    const folder = join(stage.path, "x".repeat(80));
    mkdirSync(folder);
    const wrap = (flag: string): Running => {
      const command = stage.wrapCommand(["python3", "-c", TO_ITSELF], { flags: [flag] });
      return stage.plain(command.map((word) => (word === stage.path ? folder : word)));
    };
    const running = wrap("--log");
    expect([await running.exit, running.output]).toEqual([0, expect.stringMatching(/^True$/m)]);
    expect(running.output).toMatch(/Left tcp:127\.0\.0\.1:\d+ to plain TCP: Cannot use socket path .* 107 is the most/);
    const strict = wrap("--rule=in,require");
    expect(await strict.exit).toBe(1);
    expect(strict.output).toContain("OSError");
  },
);

const SAME_PORT = `
import errno, socket
listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
def client():
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return s
first, second, third = client(), client(), client()
first.bind(("127.0.0.1", 0))
second.bind(first.getsockname())
third.bind(first.getsockname())
first.connect(listeners[0].getsockname())
second.connect(listeners[1].getsockname())
print("another server:", second.getsockname() == first.getsockname())
try: print("the same:", third.connect(listeners[0].getsockname()) or "connected")
except OSError as error: print("the same:", errno.errorcode[error.errno])
`;

requires.test(
  [python],
  "one local port to two servers, by SO_REUSEADDR, is as on TCP; to the same server again it goes over TCP, which has no such connection",
  async () => {
    await using stage = new Stage();
    const [native, wrapped] = [stage.plain(["python3", "-c", SAME_PORT]), stage.wrap(["python3", "-c", SAME_PORT])];
    expect([await native.exit, await wrapped.exit], native.output + wrapped.output).toEqual([0, 0]);
    expect(native.output).toBe("another server: True\nthe same: EADDRNOTAVAIL\n");
    expect(wrapped.output).toBe("another server: True\nthe same: connected\n");
    expect(stage.registry.fallbacks()).toEqual([expect.stringMatching(/no local port is free for this destination/)]);
  },
);

/** Listens again and again while a signal comes, each time a little later; says how many of its listeners the registry has. */
const INTERRUPTED = `
import os, signal, socket, sys
signal.signal(signal.SIGALRM, lambda *_: None)
signal.siginterrupt(signal.SIGALRM, False)
found = 0
for turn in range(40):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        signal.setitimer(signal.ITIMER_REAL, 0.00002 * (turn + 1))
        s.listen(5)
        signal.setitimer(signal.ITIMER_REAL, 0)
        found += os.path.exists(sys.argv[1] + "/127.0.0.1_%d.json" % s.getsockname()[1])
print("found:", found)
`;

requires.test([python], "a listen() that a signal interrupts is handed off when it is called again", async () => {
  await using stage = new Stage();
  const running = stage.wrap(["python3", "-c", INTERRUPTED, join(stage.path, "registry")]);
  expect([await running.exit, running.output]).toEqual([0, "found: 40\n"]);
});

/** Gets a signal every few milliseconds, and listens. */
const AGAIN_AND_AGAIN = `
import signal, socket
signal.signal(signal.SIGALRM, lambda *_: None)
signal.siginterrupt(signal.SIGALRM, False)
signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
with socket.socket() as s:
    s.listen()
    signal.setitimer(signal.ITIMER_REAL, 0)
    with socket.create_connection(s.getsockname()): print("reached:", s.accept()[0].family == socket.AF_INET)
`;

requires.test(
  [python, requires.program("strace", "strace")],
  "a listener of who gets signals faster than it is made is left to TCP",
  async () => {
    await using stage = new Stage();
    // What takes the supervisor so long.
    const slowly = injecting("listen", "delay_exit=30000");
    const wrap = stage.wrapCommand(["python3", "-c", AGAIN_AND_AGAIN], { flags: ["--log"] });
    const running = stage.plain([...slowly, ...wrap]);
    expect(await running.exit, running.output).toBe(0);
    expect(running.output).toMatch(
      /Left tcp:0\.0\.0\.0:\d+ to plain TCP: signals interrupt listen\(\) again and again\n.*reached: True\n/s,
    );
  },
  60_000,
);

/** A socket that may not listen, as another one listens there, connects instead, and once more. */
const REFUSED = `
import errno, socket, sys
def tell(act, *args):
    try: act(*args); print("done")
    except OSError as e: print(errno.errorcode[e.errno])
first, second = socket.socket(), socket.socket()
for s in first, second: s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
first.bind(("127.0.0.1", 0))
second.bind(first.getsockname())
for s in first, second: tell(s.listen)
for _ in 1, 2: tell(second.connect, ("127.0.0.1", int(sys.argv[1])))
`;

requires.test([python], "who may not listen and connects then is told of it once, as without wrap", async () => {
  await using stage = new Stage();
  const port = String(freePort());
  const server = stage.plain(["python3", "-c", SERVE, port]);
  await server.match(/listening/);
  const running = stage.wrap(["python3", "-c", REFUSED, port]);
  expect([await running.exit, running.output]).toEqual([0, "done\nEADDRINUSE\ndone\nEISCONN\n"]);
});

requires.test(
  [requires.program("cc", "gcc")],
  "who has left the network namespace reaches a path that a rule names, and nothing else of the old one",
  async () => {
    await using stage = new Stage();
    const path = join(stage.path, "by-rule");
    const program = [compileFixture("tcp-hard"), "namespace"];
    const native = stage.plain(program);
    expect(await native.exit).toBe(0);
    if (native.output.includes("unshare:")) return; // this user may make no namespace
    const wrapped = stage.wrap(program, { flags: [`--rule=path=${path}`] });
    expect(await wrapped.exit, wrapped.output).toBe(0);
    const connects = (text: string): string[] => text.match(/^connect: -?\d+ \w*/gm)?.slice(-3) ?? [];
    expect(connects(native.output)).toHaveLength(3);
    expect(connects(native.output).every((line) => line.startsWith("connect: -1 E"))).toBe(true);
    expect(connects(wrapped.output)).toEqual(["connect: 0 ", "connect: 0 ", "connect: 0 "]);
  },
);

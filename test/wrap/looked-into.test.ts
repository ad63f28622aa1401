/** What wrap does about programs that it may not look into, and about what came to it from outside of the tree. */
import { expect } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { Cli } from "../cli/fixture.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { giveAway, takeAs } from "../helpers/python-door.ts";
import { requires } from "../helpers/requires.ts";
import { BUN } from "../helpers/runtimes.ts";
import { Running, Stage, until } from "../helpers/wrapped.ts";

expectNoFdLeaks();
const python = requires.program("python3", "python3");
const LIMIT_MS = 30_000;

/** Cannot be looked into without CAP_SYS_PTRACE, and listens and connects. */
const CLOSED = `
import ctypes, socket
ctypes.CDLL(None).prctl(4, 0, 0, 0, 0) # PR_SET_DUMPABLE
listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname())
accepted, address = listener.accept()
accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
client.sendall(b"x")
print(accepted.recv(1), address == client.getsockname(), client.getpeername() == accepted.getsockname())
`;

requires.test(
  [python, requires.program("setpriv", "util-linux")],
  "a program that wrap may not look into stays on plain TCP, with a warning",
  async () => {
    await using stage = new Stage();
    const powerless = process.geteuid?.() === 0 ? ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] : [];
    const running = stage.plain([...powerless, ...stage.wrapCommand(["python3", "-c", CLOSED], { flags: ["--log"] })]);
    expect(await running.exit, running.output).toBe(0);
    expect(running.output).toContain("b'x' True True\n");
    expect(running.output).toMatch(
      /wrap warn: Cannot look into thread \d+ .*: it stays on plain TCP; run shmlink with/,
    );
    expect(running.output).not.toContain("Handed off");
  },
  LIMIT_MS,
);

/** Makes a socket, sets an option that only TCP has, and gives it to whoever comes to a path. */
const MAKING = `
import array, socket, sys
made = socket.socket()
made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 33)
${giveAway("made")}`;

const CONNECTING = `
import array, socket, sys
${takeAs("made")}
listener = socket.create_server(("127.0.0.1", 0))
made.connect(listener.getsockname())
print("idle", made.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE), made.family.name)
door.sendall(b"y")
`;

requires.test(
  [python],
  "an option of TCP that was set outside of the tree is carried over only from a program of the tree",
  async () => {
    await using stage = new Stage();
    for (const isWithin of [false, true]) {
      const path = join(stage.path, `door-${isWithin}`);
      const making = ["python3", "-c", MAKING, path];
      const connecting = ["python3", "-c", CONNECTING, path];
      const both = ["sh", "-c", 'python3 -c "$1" "$3" | { read ready; exec python3 -c "$2" "$3"; }'];
      const maker = isWithin ? undefined : stage.plain(making);
      await maker?.match(/ready/);
      const receiver = stage.wrap(isWithin ? [...both, "sh", MAKING, CONNECTING, path] : connecting);
      expect([await receiver.exit, await maker?.exit], receiver.output).toEqual([0, isWithin ? undefined : 0]);
      expect(receiver.output).toEndWith(isWithin ? "idle 33 AF_INET\n" : "idle 7200 AF_INET\n");
    }
  },
  LIMIT_MS,
);

/** Makes a socket, sets options, and starts what it was told with it as its input. */
const HANDING_DOWN = `
import os, socket, struct, sys
made = socket.socket()
made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 33)
made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 8))
os.dup2(made.fileno(), 0)
os.execvp(sys.argv[1], sys.argv[1:])`;

/** After a few others, it connects what it was given. */
const INHERITING = `
import socket, struct
listener = socket.create_server(("127.0.0.1", 0))
for _ in range(5): socket.create_connection(listener.getsockname()).close()
made = socket.socket(fileno=0)
made.connect(listener.getsockname())
linger = struct.unpack("ii", made.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8))
print("idle", made.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE), "linger", linger)
`;

requires.test(
  [python],
  "options that were set on a socket which the program inherits are carried over",
  async () => {
    await using stage = new Stage();
    const wrapped = stage.wrapCommand(["python3", "-c", INHERITING], { flags: ["--log"] });
    const running = stage.plain(["python3", "-c", HANDING_DOWN, ...wrapped]);
    expect(await running.exit, running.output).toBe(0);
    expect(running.output).toContain("idle 33 linger (1, 8)\n");
    expect(stage.registry.fallbacks()).toEqual([]);
  },
  LIMIT_MS,
);

requires.test(
  [],
  "the reader of a pipe that wrap inherited sees its end when wrap ends",
  async () => {
    await using cli = new Cli(BUN);
    const closed = join(cli.directory, "closed");
    const script = `exec 1>&-; echo x > ${closed}; read line; exit 3`;
    const { child, result } = cli.start(["wrap", "--", "sh", "-c", script]);
    let hasEnded = false;
    child.stdout?.on("end", () => {
      hasEnded = true;
    });
    await until("the program to close its stdout", () => existsSync(closed));
    expect(hasEnded).toBe(false);
    child.stdin?.end("\n");
    expect((await result).code).toBe(3);
    await until("the end", () => hasEnded);
  },
  LIMIT_MS,
);

requires.test(
  [],
  "rules are not applied inside another wrap, which is said",
  async () => {
    await using cli = new Cli(BUN);
    const inner = (...rules: string[]): string[] => ["wrap", "--", ...cli.command("wrap", ...rules, "--", "true")];
    const silent = await cli.run(inner());
    expect([silent.code, silent.stderr]).toEqual([0, ""]);
    const loud = await cli.run(inner("-r", "ignore"));
    expect(loud.code).toBe(0);
    expect(loud.stderr).toContain("Rules are not applied inside another wrap: those of the outer one are");
  },
  LIMIT_MS,
);

/** What systemd's socket would be told. */
const TELLING = `
import os, socket
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
`;

requires.test(
  [python],
  "NOTIFY_SOCKET reaches the program, and wrap says nothing of its own there",
  async () => {
    await using cli = new Cli(BUN);
    const path = join(cli.directory, "notify");
    const hear = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind(sys.argv[1]); print("ready", flush=True)
while (said := s.recv(100)) != b"end": print(said.decode(), flush=True)`;
    const listener = new Running(["python3", "-c", hear, path], cli.directory);
    await listener.match(/ready/);
    const result = await cli.run(["wrap", "--", "python3", "-c", TELLING], { env: { NOTIFY_SOCKET: path } });
    expect([result.code, result.stderr]).toEqual([0, ""]);
    const end = `import socket; socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"end", ${JSON.stringify(path)})`;
    expect(await new Running(["python3", "-c", end], cli.directory).exit).toBe(0);
    expect([await listener.exit, listener.output]).toEqual([0, "ready\nREADY=1\n"]);
  },
  LIMIT_MS,
);

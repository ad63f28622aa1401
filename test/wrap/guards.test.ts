/** What keeps a supervisor from taking what is not its own: a number that changed hands, a port, too many descriptors. */
import { expect } from "bun:test";
import { execFileSync, spawnSync } from "node:child_process";
import { readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { tellsSleeps } from "../helpers/process-state.ts";
import { requires } from "../helpers/requires.ts";
import { injecting } from "../helpers/strace.ts";
import { freePort, Stage, until } from "../helpers/wrapped.ts";

expectNoFdLeaks();
const python = requires.program("python3", "python3");
const LIMIT_MS = 60_000;

/** A FIFO that a program waits for. */
function makeFifo(stage: Stage): string {
  const fifo = join(stage.path, "go-on");
  execFileSync("mkfifo", [fifo]);
  return fifo;
}

/** Another thread gives the socket's number to a pipe while connect() waits. */
const CHANGING_HANDS = `
import os, socket, threading, time
listener = socket.create_server(("127.0.0.1", 0), backlog=64)
address = listener.getsockname()
for _ in range(4): socket.create_connection(address).close()
_, pipe = os.pipe()
def give(number):
    time.sleep(0.01)
    os.dup2(pipe, number)
kept = []
for _ in range(8):
    s = socket.socket()
    other = threading.Thread(target=give, args=[s.fileno()])
    other.start()
    try: s.connect(address)
    except OSError: pass
    other.join()
    kept.append(os.fstat(s.fileno()).st_ino == os.fstat(pipe).st_ino)
print("kept:", kept.count(True))
`;

requires.test(
  [python, requires.program("strace", "strace")],
  "a number that another thread gives to another file while connect() waits keeps that file",
  async () => {
    await using stage = new Stage();
    // The supervisor takes long between its first look at the socket and the last.
    const slowly = injecting("bind", "delay_exit=30000");
    const running = stage.plain([...slowly, ...stage.wrapCommand(["python3", "-c", CHANGING_HANDS])]);
    expect(await running.exit, running.output).toBe(0);
    expect(running.output).toBe("kept: 8\n");
  },
  LIMIT_MS,
);

/** Another thread closes the socket while listen() or connect() waits, each time a little later. */
const CLOSED_MEANWHILE = `
import os, socket, threading, time
listener = socket.create_server(("127.0.0.1", 0), backlog=64)
def close(number, seconds):
    time.sleep(seconds)
    os.close(number)
def repeat(call):
    for turn in range(12):
        s = socket.socket()
        other = threading.Thread(target=close, args=[s.fileno(), 0.01 + 0.02 * turn])
        other.start()
        try: call(s)
        except OSError: pass
        other.join()
        s.detach()
repeat(lambda s: s.listen())
repeat(lambda s: s.connect(listener.getsockname()))
print("ended")
`;

requires.test(
  [python, requires.program("strace", "strace")],
  "a listen() or connect() whose descriptor another thread closes meanwhile ends",
  async () => {
    await using stage = new Stage();
    // Between two looks of the supervisor at the number there is time to close it.
    const slowly = injecting("kcmp,listen", "delay_exit=20000");
    const running = stage.plain([...slowly, ...stage.wrapCommand(["python3", "-c", CLOSED_MEANWHILE])]);
    expect(await running.exit, running.output).toBe(0);
    expect(running.output).toBe("ended\n");
  },
  LIMIT_MS,
);

function canUnshare(): boolean {
  return spawnSync("unshare", ["-n", "true"], { stdio: "ignore" }).status === 0;
}

/** A client in a network namespace of its own reaches a listener by its path; a process of the first one tries its port. */
const ELSEWHERE = `
import ctypes, os, socket, sys
port = int(sys.argv[1])
listener = socket.create_server(("127.0.0.1", 0))
begin, told = os.pipe()
if os.fork() == 0:
    os.close(told) # or it would wait for itself
    os.read(begin, 1)
    try: print(socket.socket().bind(("127.0.0.1", port)) or "free", flush=True)
    except OSError as error: print(error, flush=True)
    os._exit(0)
if ctypes.CDLL(None, use_errno=True).unshare(0x40000000) != 0: sys.exit("no namespace")
client = socket.socket()
client.bind(("0.0.0.0", port))
client.connect(listener.getsockname())
print(listener.accept()[1][1] == port, flush=True)
os.write(told, b"x")
os.wait()
`;

requires.test(
  [python, requires.feature(canUnshare(), "this user may not make a network namespace")],
  "the port of a client in another network namespace stays free in the supervisor's own",
  async () => {
    await using stage = new Stage();
    const program = ["python3", "-c", ELSEWHERE, String(freePort())];
    const running = stage.wrap(program, { flags: [`--rule=path=${join(stage.path, "by-rule")}`] });
    expect(await running.exit, running.output).toBe(0);
    expect(running.output).toBe("True\nfree\n");
  },
  LIMIT_MS,
);

const UNACCEPTED = `
import os, socket, sys
listener = socket.create_server(("127.0.0.1", 0), backlog=1000)
print("port", listener.getsockname()[1], flush=True)
words = os.open(sys.argv[1], os.O_RDWR) # once: what comes before the second read is not missed
os.read(words, 1)
for _ in range(200): listener.getsockname()
print("asked", flush=True)
os.read(words, 1)
listener.accept()
listener.accept()
`;
const MANY_CLIENTS = `
import socket, sys
all = [socket.create_connection(("127.0.0.1", int(sys.argv[1]))) for _ in range(150)]
print("connected", flush=True)
all[0].recv(1)
`;

requires.test(
  [python],
  "plain TCP clients that a server leaves waiting take a quarter of the supervisor's descriptors and no more",
  async () => {
    await using stage = new Stage();
    const fifo = makeFifo(stage);
    const limited = ["sh", "-c", 'ulimit -n 256; exec "$@"', "sh"];
    const server = stage.plain([...limited, ...stage.wrapCommand(["python3", "-c", UNACCEPTED, fifo])]);
    const port = await server.match(/port (\d+)/);
    const sockets = (): number =>
      readdirSync(`/proc/${server.pid}/fd`).filter((fd) => isSocket(`/proc/${server.pid}/fd/${fd}`)).length;
    const before = sockets();
    const clients = stage.plain(["python3", "-c", MANY_CLIENTS, port]);
    await clients.match(/connected/);
    await until("a quarter of 256 descriptors", () => sockets() >= before + 56);
    writeFileSync(fifo, "x");
    await server.match(/asked/); // it has had its turn again and again
    expect(sockets() - before).toBeLessThan(72); // of 150; a few of its own come and go
    writeFileSync(fifo, "x");
    clients.child.kill();
    expect(await server.exit, server.output).toBe(0);
  },
  LIMIT_MS,
);

function isSocket(path: string): boolean {
  try {
    return readlinkSync(path).startsWith("socket:");
  } catch {
    return false; // closed meanwhile
  }
}

const CLOSING = `
import os, socket, sys
listener = socket.create_server(("127.0.0.1", 0))
name = listener.getsockname()
print("pid", os.getpid(), flush=True)
os.read(os.open(sys.argv[1], os.O_RDONLY), 1)
listener.close()
socket.socket().bind(name)
print("bound")
`;

requires.test(
  [python, tellsSleeps],
  "a port whose listener was closed just before may be bound again, also where the supervisor learns of both at once",
  async () => {
    await using stage = new Stage();
    const fifo = makeFifo(stage);
    const running = stage.wrap(["python3", "-c", CLOSING, fifo]);
    const program = await running.match(/pid (\d+)/);
    running.child.kill("SIGSTOP");
    await until("the supervisor to stand still", () => / T /.test(readFileSync(`/proc/${running.pid}/stat`, "latin1")));
    writeFileSync(fifo, "x");
    const bind = process.arch === "x64" ? "49 " : "200 ";
    await until("bind()", () => readFileSync(`/proc/${program}/syscall`, "latin1").startsWith(bind));
    running.child.kill("SIGCONT");
    expect(await running.exit, running.output).toBe(0);
    expect(running.output).toEndWith("bound\n");
  },
  LIMIT_MS,
);

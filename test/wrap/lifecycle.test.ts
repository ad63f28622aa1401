/** How a wrapped program starts, ends, and is told to; and that nothing outlives it. */
import { expect, test } from "bun:test";
import { existsSync, readFileSync, statSync, unlinkSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { dirname, join } from "node:path";
import { constants, kill } from "../../ffi/mod.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { sleepsThrough } from "../helpers/process-state.ts";
import { requires } from "../helpers/requires.ts";
import { RUNTIMES } from "../helpers/runtimes.ts";
import { compileFixture, freePort, type Running, Stage, until } from "../helpers/wrapped.ts";

expectNoFdLeaks();
const python = requires.program("python3", "python3");
const cc = requires.program("cc", "gcc");

/** What a plain TCP connect() to that port comes to. */
function dial(port: number): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.on("connect", () => {
      resolve("connected");
      setTimeout(() => socket.destroy(), 500);
    });
    socket.on("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    socket.on("close", () => socket.destroy());
  });
}

for (const runtime of RUNTIMES) {
  test(`the exit code is the program's, on ${runtime.name}`, async () => {
    await using stage = new Stage();
    const codes = ["exit 0", "exit 7", "kill -9 $$", "kill -TERM $$"].map(
      (script) => stage.wrap(["sh", "-c", script], { runtime }).exit,
    );
    expect(await Promise.all(codes)).toEqual([0, 7, 137, 143]);
  }, 60_000);
}

test("a program that is missing gives 127, one that cannot be executed 126, each in one line", async () => {
  await using stage = new Stage();
  const missing = stage.wrap(["no-such-program"]);
  const data = stage.wrap(["/etc/passwd"]);
  expect([await missing.exit, await data.exit]).toEqual([127, 126]);
  expect(missing.output).toBe('Cannot run "no-such-program": it is not in PATH\n');
  expect(data.output).toBe('Cannot run "/etc/passwd": it is not executable\n');
  await stage.wrap(["true"]).exit;
});

test("a script without an interpreter line is run by the shell, as execvp does", async () => {
  await using stage = new Stage();
  writeFileSync(`${stage.path}/script`, "echo it ran $1\n", { mode: 0o755 });
  const running = stage.wrap(["./script", "well"]);
  expect(await running.exit).toBe(0);
  expect(running.output).toBe("it ran well\n");
});

requires.test([cc], "wrap inside wrap joins the outer supervisor, and passes exit codes and signals on", async () => {
  await using stage = new Stage();
  const [runtime] = RUNTIMES;
  if (runtime === undefined) throw new Error("no runtime");
  const inner = (...argv: string[]): string[] => stage.wrapCommand(argv, { runtime, flags: ["--log"] });
  const server = stage.wrap(inner(compileFixture("accept-ways"), "poll", "1"), { flags: ["--log"] });
  const port = Number(await server.match(/port (\d+)/));
  await stage.listener(port);
  const client = stage.wrap(inner("bash", "-c", `exec 3<>/dev/tcp/127.0.0.1/${port}; exit 9`));
  expect(await client.exit).toBe(9);
  expect(await server.exit).toBe(0);
  expect(server.output.match(/Handed off/g)).toHaveLength(1);
  const waiting = stage.wrap(inner("sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done"));
  await waiting.match(/ready/);
  waiting.child.kill("SIGTERM");
  expect(await waiting.exit).toBe(3);
});

requires.test([cc], "wrap inside another supervisor is refused with the reason", async () => {
  await using stage = new Stage();
  const nested = stage.plain([compileFixture("foreign-listener"), ...stage.wrapCommand(["true"])]);
  expect(await nested.exit).toBe(1);
  expect(nested.output).toContain('Cannot run "true" under wrap: another supervisor');
});

requires.test(
  [cc],
  "a program of the tree that wants to be a supervisor itself is told that there is one",
  async () => {
    await using stage = new Stage();
    const running = stage.wrap([compileFixture("foreign-listener"), "true"]);
    expect([await running.exit, running.output]).toEqual([2, "seccomp: Device or resource busy\n"]);
  },
);

requires.test(
  [requires.program("strace", "strace"), requires.program("nc", "netcat-openbsd")],
  "a program of the tree may trace others, which see TCP",
  async () => {
    await using stage = new Stage();
    const port = freePort();
    const server = stage.wrap(["nc", "-Nl", "127.0.0.1", String(port)]);
    await stage.listener(port);
    const calls = join(stage.path, "calls");
    const client = stage.wrap(["strace", "-f", "-o", calls, "nc", "-z", "127.0.0.1", String(port)]);
    expect([await client.exit, await server.exit], client.output).toEqual([0, 0]);
    expect(readFileSync(calls, "utf8")).toContain(`sin_port=htons(${port})`);
    expect(stage.registry.fallbacks()).toEqual([]);
  },
);

requires.test(
  [requires.program("su", "util-linux"), requires.ordinaryUser()],
  "a set-user-ID program is said to run without its owner's rights",
  async () => {
    await using stage = new Stage();
    const running = stage.wrap(["su", "--version"], { flags: ["--log"] });
    expect(await running.exit).toBe(0);
    expect(running.output).toMatch(/wrap warn: Program "\S+su" runs without the rights of its owner/);
  },
);

test("signals sent to wrap reach the program", async () => {
  await using stage = new Stage();
  for (const signal of ["TERM", "INT", "USR1", "HUP"] as const) {
    const script = `trap 'echo got ${signal}; exit 3' ${signal}; echo ready; while :; do sleep 0.05; done`;
    const running = stage.wrap(["bash", "-c", script]);
    await running.match(/ready/);
    running.child.kill(`SIG${signal}`);
    expect(await running.exit).toBe(3);
    expect(running.output).toContain(`got ${signal}`);
  }
});

requires.test([cc], "a killed server leaves no socket file, no entry, and nobody who accepts", async () => {
  await using stage = new Stage();
  const server = stage.wrap([compileFixture("accept-ways"), "blocking", "5"]);
  const port = Number(await server.match(/port (\d+)/));
  expect(stage.sockets()).toHaveLength(1);
  const children = readFileSync(`/proc/${server.pid}/task/${server.pid}/children`, "latin1").trim().split(" ");
  for (const child of children) process.kill(Number(child), "SIGKILL");
  expect(await server.exit).toBe(137);
  expect(stage.sockets()).toEqual([]);
  expect(await dial(port)).toBe("ECONNREFUSED");
});

const CLOSES = `
import os, socket
listener = socket.create_server(("127.0.0.1", 0))
print("port", listener.getsockname()[1], flush=True)
if os.fork() == 0:
    listener.close()
    os._exit(0)
os.wait()
print("child closed", flush=True)
first, _ = listener.accept()
listener.close()
print("closed", flush=True)
first.recv(1)
`;

requires.test(
  [python],
  "a listener ends with its last descriptor, not with a child's copy, and before the program does",
  async () => {
    await using stage = new Stage();
    const server = stage.wrap(["python3", "-c", CLOSES]);
    const port = Number(await server.match(/port (\d+)/));
    await server.match(/child closed/);
    const [path = ""] = (await stage.listener(port)).path.split("\n");
    expect(existsSync(path)).toBe(true);
    const client = connect(port, "127.0.0.1");
    await server.match(/^closed/m);
    await until("the end of the listener", () => !existsSync(path));
    expect(stage.registry.entries()).toEqual([]);
    expect(await dial(port)).toBe("ECONNREFUSED");
    client.end("x");
    expect(await server.exit).toBe(0);
  },
);

requires.test(
  [cc, python],
  "a daemon of the tree is served after the program has ended, and its code is kept",
  async () => {
    await using stage = new Stage();
    const script = `setsid ${compileFixture("accept-ways")} poll 1 & sleep 0.3; exit 5`;
    const server = stage.wrap(["sh", "-c", script]);
    const port = Number(await server.match(/port (\d+)/));
    await stage.listener(port);
    const client = stage.wrap([
      "python3",
      "-c",
      `import socket; s = socket.create_connection(("127.0.0.1", ${port})); s.close()`,
    ]);
    expect(await client.exit).toBe(0);
    expect(await server.exit).toBe(5);
  },
);

requires.test([python], "without TCP the port is reserved, but only wrapped clients reach it", async () => {
  await using stage = new Stage();
  const port = freePort();
  const server = stage.wrap(["python3", "-m", "http.server", String(port), "--bind", "127.0.0.1"], {
    flags: ["--no-tcp"],
  });
  const entry = await stage.listener(port);
  expect([entry.noTcp, entry.address]).toEqual([true, "127.0.0.1"]);
  expect(await dial(port)).toBe("ECONNREFUSED");
  const get = `import urllib.request; print(urllib.request.urlopen("http://127.0.0.1:${port}/").status)`;
  const client = stage.wrap(["python3", "-c", get]);
  expect(await client.exit).toBe(0);
  expect(client.output).toBe("200\n");
  server.child.kill();
  expect(await server.exit).toBe(143);
});

requires.test(
  [python],
  "a listener whose socket file was removed is served over TCP, also when another's file is there, which stays",
  async () => {
    await using stage = new Stage();
    const port = freePort();
    const program = ["python3", "-m", "http.server", String(port), "--bind", "127.0.0.1"];
    const server = stage.wrap(program, { flags: ["--log"] });
    const { path } = await stage.listener(port);
    const get = `import urllib.request; print(urllib.request.urlopen("http://127.0.0.1:${port}/").status)`;
    const fetches = async (client: Running): Promise<void> => {
      expect([await client.exit, client.output]).toEqual([0, "200\n"]);
    };
    unlinkSync(path);
    await fetches(stage.plain(["python3", "-c", get]));
    await fetches(stage.wrap(["python3", "-c", get]));
    expect(stage.registry.fallbacks()).toEqual([expect.stringMatching(/ENOENT/)]);
    let strangers = 0;
    const other = createServer(() => strangers++);
    await new Promise<void>((resolve) => other.listen(path, resolve));
    await fetches(stage.plain(["python3", "-c", get]));
    expect(strangers).toBe(0);
    expect(stage.registry.entries()).toHaveLength(1);
    server.child.kill();
    expect(await server.exit).toBe(143);
    expect(server.output.match(/warn: The socket file of tcp:127\.0\.0\.1:\d+ is gone/g)).toHaveLength(1);
    expect(existsSync(path)).toBe(true);
    await new Promise((resolve) => other.close(resolve));
  },
);

requires.test([cc], "an idle wrap is never woken", async () => {
  await using stage = new Stage();
  const server = stage.wrap([compileFixture("accept-ways"), "blocking", "1"]);
  await server.match(/port (\d+)/);
  await sleepsThrough(server.pid);
  for (const child of readFileSync(`/proc/${server.pid}/task/${server.pid}/children`, "latin1").trim().split(" ")) {
    process.kill(Number(child), "SIGKILL");
  }
  await server.exit;
});

/** Takes each SIGUSR1 as it comes: two that wait at once are one. */
const COUNTING = `
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGTERM])
print("counting", flush=True)
while signal.sigwait([signal.SIGUSR1, signal.SIGTERM]) == signal.SIGUSR1: print("one", flush=True)
`;

requires.test(
  [python, requires.program("setsid", "util-linux")],
  "a signal sent to wrap reaches the program once, and one to the whole process group twice",
  async () => {
    await using stage = new Stage();
    const wrap = stage.plain(["setsid", ...stage.wrapCommand(["python3", "-c", COUNTING])]);
    await wrap.match(/counting/);
    const count = (): number => wrap.output.split("one").length - 1;
    kill(wrap.pid, constants.SIGUSR1);
    await until("the first", () => count() === 1);
    // On a busy machine the second may come while the first waits, or much later than that.
    for (let sent = 1; count() <= sent; sent++) {
      const before = count();
      kill(-wrap.pid, constants.SIGUSR1);
      await until("one more", () => count() > before);
      await new Promise((resolve) => setTimeout(resolve, 300));
      expect(count()).toBeLessThanOrEqual(1 + 2 * sent);
      expect(sent).toBeLessThan(30);
    }
    kill(wrap.pid, constants.SIGTERM);
    expect(await wrap.exit).toBe(0);
  },
);

requires.test([python], "a listener's socket is its user's alone, and so is the folder", async () => {
  await using stage = new Stage();
  const port = freePort();
  const serve = `import os, signal, socket; os.umask(0); s = socket.create_server(("127.0.0.1", ${port})); signal.pause()`;
  const server = stage.wrap(["python3", "-c", serve]);
  const { path } = await stage.listener(port);
  expect([statSync(path).mode & 0o7777, statSync(dirname(path)).mode & 0o7777]).toEqual([0o600, 0o700]);
  server.child.kill();
  await server.exit;
});

/** Closes a listener, or a client that was bound, and takes its port again at once. */
const AGAIN = `
import socket
def bound(port):
    s = socket.socket()
    s.bind(("127.0.0.1", port))
    return s
listener = bound(0)
port = listener.getsockname()[1]
for _ in range(300):
    listener.listen()
    listener.close()
    listener = bound(port)
print("listened")
server = socket.create_server(("127.0.0.1", 0))
for _ in range(300):
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    client.bind(("127.0.0.1", 0))
    name = client.getsockname()
    client.connect(server.getsockname())
    server.accept()[0].close()
    client.recv(1)
    client.close()
    again = socket.socket()
    again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    again.bind(name)
    again.close()
print("connected")
`;

requires.test(
  [python, requires.program("taskset", "util-linux")],
  "a port is free at once when its listener was closed, or the client that was bound to it",
  async () => {
    await using stage = new Stage();
    const native = stage.plain(["python3", "-c", AGAIN]);
    expect([await native.exit, native.output]).toEqual([0, "listened\nconnected\n"]);
    // On one processor the supervisor hears of the close no sooner than of what comes next.
    const cpu = /^Cpus_allowed_list:\s*(\d+)/m.exec(readFileSync("/proc/self/status", "latin1"))?.[1] ?? "0";
    const wrapped = stage.plain(["taskset", "-c", cpu, ...stage.wrapCommand(["python3", "-c", AGAIN])]);
    expect([await wrapped.exit, wrapped.output]).toEqual([0, native.output]);
  },
);

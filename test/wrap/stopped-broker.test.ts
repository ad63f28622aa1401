/** A broker that is stopped, and has not ended: what wrapped programs ask of it is waited for, but not for ever. */
import { expect } from "bun:test";
import { constants, kill } from "../../ffi/mod.ts";
import { TestBroker, waitUntil } from "../helpers/broker.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { requires } from "../helpers/requires.ts";
import { brokersAt, Staying } from "../helpers/staying.ts";
import { freePort } from "../helpers/wrapped.ts";

expectNoFdLeaks();

/** A connection that is up, and for each line one more, to an address that was not asked for before. */
const PROGRAM = `
import socket, sys
port = int(sys.argv[1])
listener = socket.create_server(("0.0.0.0", port))
first = socket.create_connection(("127.0.0.1", port))
held, _ = listener.accept()
print("ready", flush=True)
for line in sys.stdin:
    held.sendall(b"goes on")
    print(first.recv(100).decode(), flush=True)
    with socket.create_connection(("127.0.0.2", port)) as s, listener.accept()[0] as accepted:
        accepted.sendall(b"connected")
        print(s.recv(100).decode(), flush=True)
`;

requires.test(
  [requires.program("python3", "python3")],
  "a broker that is stopped: connections go on, a connect() waits for it, and goes over TCP in the end",
  async () => {
    await using broker = new TestBroker();
    await using wrap = new Staying(broker, "wrap", "--explain", "--", "python3", "-c", PROGRAM, String(freePort()));
    await waitUntil(() => wrap.stdout === "ready\n", "the program");
    const [pid = 0] = brokersAt(broker.socketPath);
    expect(pid).toBeGreaterThan(0);
    kill(pid, constants.SIGSTOP);
    try {
      wrap.child.stdin?.write("\n");
      await waitUntil(() => wrap.stdout.startsWith("ready\ngoes on\n"), "what is up to go on");
      await waitUntil(() => wrap.stdout.endsWith("connected\n"), "the connection");
      wrap.child.stdin?.end();
      await waitUntil(() => wrap.closed, "the program to end");
    } finally {
      kill(pid, constants.SIGCONT);
    }
    expect(wrap.child.exitCode).toBe(0);
    expect(wrap.stderr).toMatch(/connect +127\.0\.0\.1:\d+ +1 +to \/\S+\.tcp/);
    expect(wrap.stderr).toMatch(/connect +127\.0\.0\.2:\d+ +1 +over plain TCP/);
  },
  120_000,
);

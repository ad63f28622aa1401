/** A broker that is stopped, and has not ended: what wrapped programs ask of it is not waited for, but for a moment once. */
import { expect } from "bun:test";
import { constants, kill } from "../../ffi/mod.ts";
import { TestBroker, waitUntil } from "../helpers/broker.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { requires } from "../helpers/requires.ts";
import { brokersAt, Staying } from "../helpers/staying.ts";
import { freePort, until } from "../helpers/wrapped.ts";

expectNoFdLeaks();
const python = requires.program("python3", "python3");

/** Does what its input says: connects to an address, says a word over the connection that was there first, or listens. */
const PROGRAM = `
import socket, sys
port = int(sys.argv[1])
listener = socket.create_server(("0.0.0.0", port))
first = socket.create_connection(("127.0.0.1", port))
held, _ = listener.accept()
more = []
print("ready", flush=True)
for line in sys.stdin:
    what, host = line.split()
    if what == "say":
        held.sendall(host.encode())
        print(first.recv(100).decode(), flush=True)
    elif what == "listen":
        more.append(socket.create_server((host, port + 1)))
        print("listening", flush=True)
    else:
        with socket.create_connection((host, port)) as s, listener.accept()[0] as accepted:
            accepted.sendall(b"to " + host.encode())
            print(s.recv(100).decode(), flush=True)
`;

class Scene implements AsyncDisposable {
  readonly broker: TestBroker = new TestBroker();
  readonly port: number = freePort();
  readonly wrap: Staying;
  #pid = 0;
  #isStopped = false;

  constructor() {
    const program = ["python3", "-c", PROGRAM, String(this.port)];
    const named = ["--rule", `in,port=${this.port + 1},name=other`];
    this.wrap = new Staying(this.broker, "wrap", "--verbose", "--explain", ...named, "--", ...program);
  }

  async begin(): Promise<void> {
    await waitUntil(() => this.wrap.stdout === "ready\n", "the program");
    [this.#pid = 0] = brokersAt(this.broker.socketPath);
    expect(this.#pid).toBeGreaterThan(0);
  }

  stop(): void {
    kill(this.#pid, constants.SIGSTOP);
    this.#isStopped = true;
  }

  goOn(): void {
    if (this.#isStopped) kill(this.#pid, constants.SIGCONT);
    this.#isStopped = false;
  }

  async tell(line: string, answer: string): Promise<void> {
    this.wrap.child.stdin?.write(`${line}\n`);
    await waitUntil(() => this.wrap.stdout.endsWith(`${answer}\n`), answer);
  }

  async connect(host: string): Promise<void> {
    await this.tell(`connect ${host}`, `to ${host}`);
  }

  async end(): Promise<void> {
    this.wrap.child.stdin?.end();
    await waitUntil(() => this.wrap.closed, "the program to end");
    expect(this.wrap.child.exitCode).toBe(0);
  }

  /** What --explain says of connections to an address. */
  said(host: string): string[] {
    const ofHost = new RegExp(`connect +${host}:${this.port} .*`, "g");
    return (this.wrap.stderr.match(ofHost) ?? []).map((line) => line.replace(/ {2,}/g, " | "));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.goOn();
    await this.wrap[Symbol.asyncDispose]();
    await this.broker[Symbol.asyncDispose]();
  }
}

const LOST = "The broker has ended: looking for the next one";

requires.test(
  [python],
  "a broker that is stopped: what is known goes on being handed off, what is not goes over TCP, and listeners wait for it",
  async () => {
    await using scene = new Scene();
    await scene.begin();
    scene.stop();
    await scene.tell("say goes-on", "goes-on");
    for (const host of ["127.0.0.2", "127.0.0.3", "127.0.0.1"]) await scene.connect(host);
    await scene.tell("listen 127.0.0.1", "listening");
    expect(scene.wrap.stderr).not.toContain(LOST);
    scene.goOn();
    await until("the listener to be registered", async () => (await listed(scene)).length === 2);
    await scene.connect("127.0.0.2");
    await scene.end();
    expect(scene.wrap.stderr).not.toContain(LOST);
    const byTcp = /^connect \| 127\.0\.0\.\d:\d+ \| 1 \| over plain TCP.*the broker does not answer/;
    expect(scene.said("127.0.0.2")).toEqual([expect.stringMatching(byTcp), expect.stringMatching(/ to \/\S+\.tcp/)]);
    expect(scene.said("127.0.0.3")).toEqual([expect.stringMatching(byTcp)]);
    expect(scene.said("127.0.0.1")).toEqual([expect.stringMatching(/127\.0\.0\.1:\d+ \| 2 \| to \/\S+\.tcp/)]);
  },
  120_000,
);

/** Listeners of the program in the listing. */
async function listed(scene: Scene): Promise<unknown[]> {
  const { stdout } = await scene.broker.run(["ls", "--json"]);
  return (JSON.parse(stdout) as { listeners: unknown[] }).listeners;
}

requires.test(
  [python],
  "a broker that stays stopped counts as ended in the end, and the program goes on",
  async () => {
    await using scene = new Scene();
    await scene.begin();
    scene.stop();
    await scene.connect("127.0.0.2");
    await waitUntil(() => scene.wrap.stderr.includes(LOST), "the broker to count as ended");
    await scene.connect("127.0.0.3");
    scene.goOn();
    await waitUntil(() => scene.wrap.stderr.includes("Connected to a broker again"), "the broker");
    await scene.connect("127.0.0.4");
    await scene.end();
    for (const host of ["127.0.0.2", "127.0.0.3"]) expect(scene.said(host).join()).toContain("over plain TCP");
  },
  120_000,
);

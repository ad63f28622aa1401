/** A supervisor that sleeps in the seccomp listener itself, as between many connections, is woken by whatever else it serves. */
import { expect } from "bun:test";
import { spawnSync } from "node:child_process";
import { connect } from "node:net";
import { release } from "node:os";
import { hasReceiveEnd } from "../../ffi/trap/waker.ts";
import { TestBroker, waitUntil } from "../helpers/broker.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { sleepOf, tellsSleeps } from "../helpers/process-state.ts";
import { requires } from "../helpers/requires.ts";
import { BUN, RUNTIMES, type Runtime } from "../helpers/runtimes.ts";
import { endBroker, StayingProgram } from "../helpers/staying.ts";
import { freePort, until } from "../helpers/wrapped.ts";

expectNoFdLeaks();

const needs = [
  requires.program("python3", "python3"),
  requires.feature(process.arch === "x64" && hasReceiveEnd(release()), "only on x86-64 and Linux 6.11"),
  tellsSleeps,
];

/** Connects to itself as often as its input says; tells of signals, and of others who connect. */
const PROGRAM = `
import os, selectors, signal, socket, sys
say = lambda word: print(word, flush=True)
signal.signal(signal.SIGTERM, lambda *_: say("SIGTERM"))
signal.signal(signal.SIGURG, lambda *_: say("SIGURG"))
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=64)
both = selectors.DefaultSelector()
both.register(listener, selectors.EVENT_READ)
both.register(0, selectors.EVENT_READ)
say("ready")
while True:
    for key, _ in both.select():
        if key.fileobj is listener:
            listener.accept()[0].close()
            say("accepted")
            continue
        line = os.read(0, 100)
        if not line: sys.exit(7)
        both.unregister(listener)
        for _ in range(int(line)):
            with socket.create_connection(listener.getsockname()) as s, listener.accept()[0] as peer:
                if peer.getpeername() != s.getsockname(): say("strange")
        both.register(listener, selectors.EVENT_READ)
        say("connected")
`;
const TIMES = 500;

class Scene implements AsyncDisposable {
  readonly broker: TestBroker = new TestBroker();
  readonly port: number = freePort();
  readonly wrap: StayingProgram;
  /** To 127.0.0.1, by the program itself. */
  connections = 0;

  /** @param before  what runs the supervisor */
  constructor(runtime: Runtime = BUN, before: readonly string[] = []) {
    const words = ["wrap", "--verbose", "--explain", "--", "python3", "-c", PROGRAM, String(this.port)];
    this.wrap = new StayingProgram(this.broker, [...before, ...runtime.command("bin/shmlink.ts", ...words)]);
  }

  get pid(): number {
    return this.wrap.child.pid ?? 0;
  }

  get isAsleep(): boolean {
    return sleepOf(this.pid)?.name === "ioctl";
  }

  async connect(times: number): Promise<void> {
    const { length } = this.wrap.stdout;
    this.wrap.child.stdin?.write(`${times}\n`);
    await waitUntil(() => this.wrap.stdout.slice(length).endsWith("\n"), "the program to connect");
    expect(this.wrap.stdout.slice(length)).toBe("connected\n");
    this.connections += times;
  }

  /** Until it sleeps in the listener: where the last of many calls had to be answered by JavaScript, it does not. */
  async fallAsleep(): Promise<void> {
    await waitUntil(() => this.wrap.stdout.startsWith("ready\n"), "the program");
    for (let tries = 0; tries < 50; tries++) {
      await this.connect(TIMES);
      await Bun.sleep(20);
      if (this.isAsleep) return;
    }
    throw new Error("The supervisor never sleeps in the listener");
  }

  /** And all have been handed off. */
  async end(): Promise<void> {
    this.wrap.child.stdin?.end();
    await waitUntil(() => this.wrap.closed, "the program to end");
    expect(this.wrap.child.exitCode).toBe(7);
    expect(this.wrap.stderr).not.toContain("over plain TCP");
    const said = new RegExp(`connect +127\\.0\\.0\\.1:${this.port} +(\\d+) +to /\\S+\\.tcp`).exec(this.wrap.stderr);
    expect(Number(said?.[1])).toBe(this.connections);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.wrap.child.stdin?.end();
    await waitUntil(() => this.wrap.closed, "the program to end");
    await this.broker[Symbol.asyncDispose]();
  }
}

for (const runtime of RUNTIMES) {
  requires.test(
    needs,
    `a supervisor asleep in the listener on ${runtime.name} goes on when a call comes late, and ends with its program`,
    async () => {
      await using scene = new Scene(runtime);
      for (let round = 0; round < 3; round++) {
        await scene.fallAsleep();
        await Bun.sleep(600); // nothing is trusted for so long, not even a listener at the very address
        await scene.connect(1);
      }
      await scene.fallAsleep();
      await scene.end();
    },
    120_000,
  );

  requires.test(
    needs,
    `a supervisor asleep in the listener on ${runtime.name} passes signals on, and does not mind its own`,
    async () => {
      await using scene = new Scene(runtime);
      await scene.fallAsleep();
      scene.wrap.child.kill("SIGTERM");
      await waitUntil(() => scene.wrap.stdout.endsWith("SIGTERM\n"), "the program to be told");
      await scene.fallAsleep();
      const kills = setInterval(() => scene.wrap.child.kill("SIGURG"), 1);
      await scene.connect(4 * TIMES);
      clearInterval(kills);
      expect(scene.wrap.stdout).not.toContain("SIGURG");
      expect(scene.wrap.stdout).not.toContain("strange");
      await scene.end();
    },
    120_000,
  );
}

requires.test(
  needs,
  "a supervisor asleep in the listener accepts plain clients, again and again",
  async () => {
    await using scene = new Scene();
    for (let round = 0; round < 5; round++) {
      await scene.fallAsleep();
      const client = connect(scene.port, "127.0.0.1");
      await waitUntil(() => scene.wrap.stdout.endsWith("accepted\n"), "the program to accept");
      client.destroy();
    }
    await scene.end();
  },
  120_000,
);

requires.test(
  needs,
  "a supervisor asleep in the listener notices that the broker has ended, and starts another when it is time",
  async () => {
    await using scene = new Scene();
    await scene.fallAsleep();
    await endBroker(scene.broker, "SIGKILL");
    await waitUntil(() => scene.wrap.stderr.includes("Connected to a broker again"), "another broker");
    expect(scene.wrap.stderr).toContain("The broker has ended: looking for the next one");
    await until("the listener", async () => (await scene.broker.run(["ls"])).stdout.includes(`:${scene.port}`));
    await scene.fallAsleep();
    await scene.end();
  },
  120_000,
);

const realTime = [
  requires.program("taskset", "util-linux"),
  requires.feature(spawnSync("chrt", ["--fifo", "20", "true"]).status === 0, "only who may have real-time priority"),
];

requires.test(
  [...needs, ...realTime],
  "a supervisor asleep in the listener leaves the processor to its waker, which has a lower priority",
  async () => {
    await using scene = new Scene(BUN, ["taskset", "--cpu-list", "0"]);
    await scene.fallAsleep();
    const { status } = spawnSync("chrt", ["--fifo", "--pid", "20", String(scene.pid)]);
    expect(status).toBe(0);
    const kills = setInterval(() => scene.wrap.child.kill("SIGCONT"), 1);
    await scene.connect(9 * TIMES);
    clearInterval(kills);
    await scene.end();
  },
  120_000,
);

/** A broker's socket where so many connect that there is no room for one more: who comes waits until there is. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { bind, connect, constants, listen, type OwnedFd, socket, unixAddress } from "../../ffi/mod.ts";
import { Broker } from "../../lib/broker/broker.ts";
import { BrokerLink } from "../../lib/client/broker-link.ts";
import { builtInConfig } from "../../lib/config/schema.ts";
import { SILENT } from "../../lib/log.ts";
import { waitUntil } from "../helpers/broker.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { sleepOf, tellsSleeps } from "../helpers/process-state.ts";
import { requires } from "../helpers/requires.ts";
import { makeRuntimeDir } from "../helpers/runtime-dir.ts";

expectNoFdLeaks();

const ENTRY = join(import.meta.dirname, "../../bin/shmlink.ts");

function unixSocket(): OwnedFd {
  return socket(constants.AF_UNIX, constants.SOCK_STREAM | constants.SOCK_NONBLOCK);
}

/** A socket that takes one connection, which has come, and of which nobody hears. */
class FullDoor implements Disposable {
  readonly #directory: ReturnType<typeof makeRuntimeDir> = makeRuntimeDir();
  readonly env: Record<string, string>;
  readonly listener: OwnedFd = unixSocket();
  readonly #first: OwnedFd = unixSocket();

  constructor() {
    const path = join(this.#directory.path, "broker.sock");
    this.env = { ...(process.env as Record<string, string>), SHMLINK_SOCKET: path };
    bind(this.listener, unixAddress(path), path);
    listen(this.listener, 0);
    connect(this.#first, unixAddress(path), path);
  }

  /** Starts `shmlink ls`, which finds no room. */
  async startListing(): Promise<ReturnType<typeof Bun.spawn<"ignore", "pipe", "pipe">>> {
    const child = Bun.spawn([process.execPath, ENTRY, "ls", "--json"], {
      env: this.env,
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
    });
    await waitUntil(() => child.exitCode !== null || sleepOf(child.pid)?.name === "connect", "it to wait at the door");
    return child;
  }

  [Symbol.dispose](): void {
    this.#first.close();
    this.listener.close();
    this.#directory[Symbol.dispose]();
  }
}

requires.test([tellsSleeps], "a command waits where the backlog is full, and goes on when there is room", async () => {
  using door = new FullDoor();
  const child = await door.startListing();
  using broker = new Broker({ listeners: [door.listener], config: builtInConfig, logger: SILENT, env: {} });
  while (child.exitCode === null) {
    broker.turn(20);
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
  expect([child.exitCode, await new Response(child.stderr).text()]).toEqual([0, ""]);
  expect(await new Response(child.stdout).text()).toContain('"name": "broker"');
});

requires.test([tellsSleeps], "a signal ends a command that waits where the backlog is full", async () => {
  using door = new FullDoor();
  const child = await door.startListing();
  child.kill("SIGINT");
  await child.exited;
  expect([child.signalCode, await new Response(child.stderr).text()]).toEqual(["SIGINT", ""]);
});

test("connect() says what is the matter when there is no room for as long as it may wait, and can leave that out", () => {
  using door = new FullDoor();
  const attempt = (patienceMs: number) => () => BrokerLink.connect({ name: "test", env: door.env, patienceMs });
  expect(attempt(30)).toThrow(/it has no room for one more connection for 0\.03 s: too many connect/);
  expect(attempt(0)).toThrow(/it has no room for one more connection: too many connect/);
  expect(attempt(Number.NaN)).toThrow(TypeError);
});

/** Listeners of wrapped programs and the brokers that they are registered with, one after the other. */
import { expect, test } from "bun:test";
import { addSeals, constants, ftruncate, memfdCreate, type OwnedFd } from "../../../ffi/mod.ts";
import { ListenerRegistry } from "../../../lib/client/listener-registry.ts";
import type { Logger } from "../../../lib/log.ts";
import { Reactor } from "../../../lib/transport/reactor.ts";
import { TestBroker } from "../../helpers/broker.ts";
import { expectNoFdLeaks } from "../../helpers/fd-leak.ts";

expectNoFdLeaks();

function makeCounters(): OwnedFd {
  const fd = memfdCreate("counters");
  ftruncate(fd, 4096);
  addSeals(fd, constants.F_SEAL_SHRINK | constants.F_SEAL_GROW);
  return fd;
}

/** A registry that is to find its broker, and what it says. */
class Fixture implements AsyncDisposable {
  readonly broker: TestBroker;
  readonly said: string[] = [];
  readonly registry: ListenerRegistry;
  readonly #reactor: Reactor = new Reactor();

  constructor(config = "") {
    this.broker = new TestBroker(config);
    const say = (message: string): void => void this.said.push(message);
    const logger: Logger = { error: say, warn: say, info: say, debug: say };
    const connect = { name: "test", env: this.broker.env };
    this.registry = ListenerRegistry.later({ connect, logger });
    this.registry.attach(this.#reactor);
  }

  register(port: number, address = "127.0.0.1"): { readonly id: number; close(): void } {
    using counters = makeCounters();
    const rest = { v6only: false, noTcp: false, pid: process.pid, counters };
    return this.registry.register({ address, port, path: `/tmp/${port}.sock`, ...rest });
  }

  runUntil(condition: () => boolean): void {
    while (!condition()) this.#reactor.runOnce(-1);
  }

  /** The ports that nobody finds. */
  get refused(): number[] {
    return this.said.map((line) => Number(/do not find tcp:.*:(\d+) any/.exec(line)?.[1])).filter(Boolean);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.registry[Symbol.dispose]();
    this.#reactor[Symbol.dispose]();
    await this.broker[Symbol.asyncDispose]();
  }
}

test("each of several listeners that the next broker refuses is said to be refused", async () => {
  const deny = '[[deny]]\naction = "register"\nservice = ["tcp:127.0.0.1:8001", "tcp:127.0.0.1:8002"]\n';
  await using fixture = new Fixture(deny);
  const [, , last] = [8001, 8002, 8003].map((port) => fixture.register(port));
  fixture.runUntil(() => last?.id !== 0);
  expect(fixture.refused).toEqual([8001, 8002]);
});

test("what a broker has against a listener that is withdrawn by then is not about the next one", async () => {
  await using fixture = new Fixture();
  const wrong = fixture.register(8001, "no address");
  const right = fixture.register(8002);
  fixture.runUntil(() => fixture.said.some((line) => line.startsWith("Connected")));
  wrong.close(); // asked for, and not answered yet
  fixture.runUntil(() => right.id !== 0 || fixture.refused.length > 0);
  expect(fixture.refused).toEqual([]);
  expect(right.id).toBeGreaterThan(0);
});

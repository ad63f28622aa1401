/** Services of programs that use the library, when the broker ends: they are offered again by whoever comes next. */
import { beforeAll, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { type BrokerEvent, connect } from "../../lib/mod.ts";
import { TestBroker, waitUntil } from "../helpers/broker.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { BUN, buildForNode, RUNTIMES, type Runtime } from "../helpers/runtimes.ts";
import { brokersAt, endBroker, StayingProgram } from "../helpers/staying.ts";

beforeAll(buildForNode, 180_000);
expectNoFdLeaks();

const serve = (broker: TestBroker, name: string, mode: string, runtime: Runtime = BUN): StayingProgram =>
  new StayingProgram(broker, runtime.command("test/fixtures/survival/service.ts", name, mode));

async function ready(program: StayingProgram): Promise<void> {
  await waitUntil(() => program.stdout.startsWith("ready\n"), `a service to be offered, not: ${program.stderr}`);
}

/** What a new dialler gets back. */
async function ask(broker: TestBroker, name: string, byte: number): Promise<number | undefined> {
  using link = broker.connect({ wake: true });
  using channel = await link.dialAsync(name);
  await channel.sendAsync(Uint8Array.of(byte));
  return (await channel.receiveAsync())?.data[0];
}

for (const runtime of RUNTIMES) {
  test(`a service on ${runtime.name} is there again after the broker was killed, and after it was stopped`, async () => {
    await using broker = new TestBroker();
    await using program = serve(broker, "echo", "async", runtime);
    await ready(program);
    expect(await ask(broker, "echo", 1)).toBe(1);
    for (const [count, signal] of (["SIGKILL", "SIGTERM"] as const).entries()) {
      await endBroker(broker, signal);
      await waitUntil(
        () => program.stdout.match(/back echo/g)?.length === count + 1,
        "the service to be offered again",
      );
      expect(await ask(broker, "echo", 7)).toBe(7);
    }
    await waitUntil(() => brokersAt(broker.socketPath).length === 1, "there to be one broker"); // see endBroker()
  }, 60_000);
}

test("a service that blocks in accept() is there again", async () => {
  await using broker = new TestBroker();
  await using program = serve(broker, "echo", "sync");
  await ready(program);
  expect(await ask(broker, "echo", 1)).toBe(1);
  await endBroker(broker, "SIGKILL");
  await waitUntil(() => program.stdout.includes("back echo"), "the service to be offered again");
  expect(await ask(broker, "echo", 2)).toBe(2);
}, 60_000);

test("a service is offered again while its program looks after a channel, and the channel goes on", async () => {
  await using broker = new TestBroker();
  await using program = serve(broker, "echo", "busy");
  await ready(program);
  using link = broker.connect({ wake: true });
  using channel = await link.dialAsync("echo");
  channel.send(Uint8Array.of(1));
  expect((await channel.receiveAsync())?.data[0]).toBe(1);
  await endBroker(broker, "SIGKILL");
  await waitUntil(() => program.stdout.includes("back echo"), "the service to be offered again");
  channel.send(Uint8Array.of(2));
  expect((await channel.receiveAsync())?.data[0]).toBe(2);
  // The same connection, with the next broker, which knows of the channel as well where that had lived for long enough.
  const kinds = link.list("echo").map(({ kind }) => kind);
  expect(kinds.filter((kind) => kind !== "channel")).toEqual(["service"]);
}, 60_000);

test("what the next broker refuses is thrown from accept, told once, and not asked for again", async () => {
  await using broker = new TestBroker();
  await using program = serve(broker, "echo", "async");
  await ready(program);
  writeFileSync(broker.configPath, '[[deny]]\nname = "quiet"\naction = "listen"\n');
  await endBroker(broker, "SIGKILL");
  await waitUntil(() => program.closed, "the program to end");
  const said = /refused (.*quiet.*)\nback \nfailed (.*)\n$/.exec(program.stdout);
  expect(said?.[1], program.stdout).toBe(said?.[2] ?? "");
}, 60_000);

test("a broker that lets nobody in is final", async () => {
  await using broker = new TestBroker();
  await using program = serve(broker, "echo", "async");
  await ready(program);
  writeFileSync(broker.configPath, '[[deny]]\nname = "closed"\naction = "connect"\n');
  await endBroker(broker, "SIGKILL");
  await waitUntil(() => program.closed, "the program to end");
  expect(program.stdout).toMatch(/refused .*closed.*\nfailed .*closed.*\n$/);
  writeFileSync(broker.configPath, "");
  await endBroker(broker, "SIGTERM");
}, 60_000);

test("a service waits for a broker that can be started again, and says so", async () => {
  await using broker = new TestBroker();
  await using program = serve(broker, "echo", "async");
  await ready(program);
  writeFileSync(broker.configPath, "[broker\n");
  await endBroker(broker, "SIGKILL");
  await waitUntil(() => /waiting Cannot start a broker.*\n.*waiting/.test(program.stdout), "word of what is wrong");
  writeFileSync(broker.configPath, "");
  await waitUntil(() => program.stdout.includes("back echo"), "the service to be offered again");
  expect(await ask(broker, "echo", 3)).toBe(3);
}, 60_000);

test("a request on a connection whose broker has ended goes to the next one; with reconnect: false it does not", async () => {
  await using broker = new TestBroker();
  const events: BrokerEvent["kind"][] = [];
  using link = broker.connect({ onBroker: ({ kind }) => void events.push(kind) });
  using fixed = connect({ name: "fixed", env: broker.env, reconnect: false });
  using offer = link.offer("relay");
  await endBroker(broker, "SIGKILL");
  expect(link.list().map(({ kind }) => kind)).toEqual(["broker"]);
  expect(events).toEqual(["ended", "back"]);
  expect(() => fixed.list()).toThrow("the broker ended the connection");
  expect(() => offer.publish([link.fd])).toThrow("the broker ended the connection");
}, 60_000);

test("close() ends an accept that waits for the next broker, and accept's time may run out meanwhile", async () => {
  await using broker = new TestBroker();
  using link = broker.connect({ wake: true });
  const service = link.listen("never");
  writeFileSync(broker.configPath, "[broker\n");
  const waiting = service.acceptAsync();
  await endBroker(broker, "SIGKILL");
  expect(await service.acceptAsync(50)).toBeUndefined();
  expect(service.accept(50)).toBeUndefined();
  link.close();
  expect(await waiting).toBeUndefined();
}, 60_000);

/**
 * What outlives a broker that no service manager looks after: a process of its own holds it for the next one. Whatever ends
 * the broker, established channels never notice, and ls is complete again, without anybody having to say anything.
 */
import { beforeAll, expect, test } from "bun:test";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  bind,
  constants,
  spawn as execute,
  getFileLimit,
  kill,
  listen,
  memfdCreate,
  type OwnedFd,
  open,
  pipe,
  read,
  setFileLimit,
  socket,
  unixAddress,
  waitForChild,
} from "../../ffi/mod.ts";
import type { Channel, Direction } from "../../lib/channel/channel.ts";
import { BrokerLink } from "../../lib/client/broker-link.ts";
import { brokerPid, CHECKOUT, connectWhenListening, isRunning, TestBroker, waitUntil } from "../helpers/broker.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { handDown } from "../helpers/handed-down.ts";
import { untilHeld } from "../helpers/holder.ts";
import { Lingering } from "../helpers/lingering.ts";
import { openFds } from "../helpers/open-fds.ts";
import { requires } from "../helpers/requires.ts";
import { buildForNode, RUNTIMES } from "../helpers/runtimes.ts";
import { brokersAt, endBroker, Staying } from "../helpers/staying.ts";

beforeAll(buildForNode, 180_000);
expectNoFdLeaks();

const ENTRY = join(CHECKOUT, "bin", "shmlink.ts");
const machine = requires.feature(process.arch === "x64", "threads that close are machine code for x86-64");
const RULES = '[[allow]]\nengine = "test"\naction = ["connect", "list"]\n';
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

type Listing = Record<
  "services" | "channels" | "contexts" | "relayed",
  { readonly id: number; readonly name: string; readonly rule?: string; readonly fdsRule?: string }[]
>;

async function ls(broker: TestBroker): Promise<Listing> {
  const { code, stdout, stderr } = await broker.run(["ls", "--json"]);
  expect([code, stderr]).toEqual([0, ""]);
  return JSON.parse(stdout) as Listing;
}

/** What does not change when a broker ends: who is listed, under which number, by which rules. */
async function kept(broker: TestBroker): Promise<Record<string, string[]>> {
  const listing = await ls(broker);
  const of = (key: keyof Listing): string[] => listing[key].map(({ id, name }) => `${id} ${name}`).sort();
  const { channels, contexts, relayed } = listing;
  const rules = [...channels, ...contexts, ...relayed].flatMap(({ rule = "none", fdsRule = "" }) => [rule, fdsRule]);
  return { channels: of("channels"), contexts: of("contexts"), relayed: of("relayed"), rules };
}

function namesOf(broker: TestBroker): string[] {
  using link = broker.connect();
  return link.list().map(({ name }) => name);
}

async function openChannel(
  link: BrokerLink,
  name: string,
  direction: Direction,
  dialler = link,
): Promise<readonly [Channel, Channel]> {
  using service = link.listen(name);
  const [near, far] = await Promise.all([dialler.dialAsync(name, { direction }), service.acceptAsync()]);
  if (far === undefined) throw new Error("Nothing was accepted");
  return [near, far];
}

function say(channel: Channel, other: Channel, text: string): void {
  channel.send(bytes(text));
  expect(other.receive(10_000)?.data).toEqual(new Uint8Array(bytes(text)));
}

/** Everything that there can be of a process that lives, and is not told of what happens to its broker. */
class Things implements Disposable {
  readonly #stack: DisposableStack = new DisposableStack();
  readonly both: readonly [Channel, Channel];
  readonly oneWay: readonly [Channel, Channel];
  readonly contextPath: string;
  readonly closeFd: OwnedFd;

  static async make(broker: TestBroker): Promise<Things> {
    const link = broker.connect({ wake: true, reconnect: false });
    return new Things(broker, link, [await openChannel(link, "talk", "both"), await openChannel(link, "log", "send")]);
  }

  private constructor(broker: TestBroker, link: BrokerLink, channels: readonly (readonly [Channel, Channel])[]) {
    const [both, oneWay] = channels;
    if (both === undefined || oneWay === undefined) throw new Error("There are two channels");
    this.both = both;
    this.oneWay = oneWay;
    for (const held of [link, ...both, ...oneWay]) this.#stack.use(held);
    this.contextPath = join(broker.directory, "context.sock");
    const listener = this.#stack.use(socket(constants.AF_UNIX, constants.SOCK_STREAM | constants.SOCK_NONBLOCK));
    bind(listener, unixAddress(this.contextPath));
    listen(listener, 5);
    const { reader, writer } = pipe();
    this.closeFd = this.#stack.use(writer);
    using closes = reader;
    link.createContext({ engine: "test", app: "a", instance: "1", listener, closeFd: closes });
    writeFileSync(join(broker.directory, "note"), "kept");
    using note = open(join(broker.directory, "note"), constants.O_RDONLY);
    this.#stack.use(link.offer("note")).publish([note]);
  }

  [Symbol.dispose](): void {
    this.#stack.dispose();
  }
}

const COMPLETE = { channels: [/ talk$/, / log$/], contexts: [/ test\/a\/1$/], relayed: [/ note$/] };

/** Of `Things`: two rings a channel, a file on offer, and the state that says what they are. */
const ALL_FILES = 6;

async function expectAllThere(
  broker: TestBroker,
  things: Things,
  before: Awaited<ReturnType<typeof kept>>,
): Promise<void> {
  expect(await kept(broker)).toEqual(before);
  const { both, oneWay, contextPath } = things;
  say(both[0], both[1], "there");
  say(both[1], both[0], "and back");
  say(oneWay[0], oneWay[1], "one way");
  const { code } = await broker.run(["ls", "--json"]);
  expect(code).toBe(0);
  const env = { ...broker.env, SHMLINK_SOCKET: contextPath };
  const inside = spawn(process.execPath, [ENTRY, "ls", "--json"], { env, stdio: "ignore" });
  const [status] = (await once(inside, "exit")) as [number];
  expect(status).toBe(0);
}

for (const [name, end] of [
  ["killed", (broker: TestBroker) => endBroker(broker, "SIGKILL")],
  ["stopped", (broker: TestBroker) => endBroker(broker, "SIGTERM")],
] as const) {
  test(`after a broker of the command line was ${name}, and ${name} again, ls is complete and nothing has stopped`, async () => {
    await using broker = new TestBroker(RULES);
    using things = await Things.make(broker);
    await untilHeld(broker, ALL_FILES);
    const before = await kept(broker);
    for (const [kind, names] of Object.entries(COMPLETE)) {
      expect(before[kind]).toHaveLength(names.length);
      for (const [index, pattern] of names.entries()) expect(before[kind]?.[index]).toMatch(pattern);
    }
    expect(before["rules"]).toEqual(["owner", "", "owner", "", "owner", "", "owner-fds", "owner-fds"]);
    for (const _time of [1, 2]) {
      const ended = await end(broker);
      await expectAllThere(broker, things, before);
      using link = broker.connect();
      expect(brokerPid(link)).not.toBe(ended);
    }
    expect(broker.holders()).toHaveLength(1);
    using link = broker.connect();
    using delivery = link.take("note");
    const [file] = delivery.fds;
    const text = new Uint8Array(9);
    expect(read(file as OwnedFd, text)).toBe(4);
    expect(new TextDecoder().decode(text.subarray(0, 4))).toBe("kept");
  }, 60_000);
}

test("by which rights a channel is there is said as before after the broker was killed; a minted connection's offer is gone", async () => {
  await using broker = new TestBroker();
  using link = broker.connect({ wake: true, reconnect: false });
  using minted = link.mint([{ rights: ["dial", "send", "offer"], name: "*o*" }]);
  using holder = BrokerLink.connect({ name: "holder", wake: true, env: handDown(broker, minted) });
  const [near, far] = await openChannel(link, "log", "both", holder);
  using _near = near;
  using _far = far;
  writeFileSync(join(broker.directory, "note"), "kept");
  using kept = open(join(broker.directory, "note"), constants.O_RDONLY);
  holder.offer("note").publish([kept]);
  link.offer("own").publish([kept]);
  await untilHeld(broker, 4);
  const rights = async (name: string): Promise<unknown> => {
    const { stdout } = await broker.run(["inspect", name, "--json"]);
    return (JSON.parse(stdout) as { readonly rights: unknown }).rights;
  };
  const grant = { from: "grant", grants: ["dial,offer,send:*o*"] };
  const [dialler, service] = [
    { directions: ["send"], ...grant },
    { directions: ["receive"], from: "user" },
  ];
  const connection = expect.any(Number);
  const before = [{ dialler: { ...dialler, connection }, service }, { ...grant, connection }, { from: "user" }];
  expect([await rights("log"), await rights("note"), await rights("own")]).toEqual(before);
  await endBroker(broker, "SIGKILL");
  // that connection has ended with its broker
  expect([await rights("log"), await rights("own")]).toEqual([{ dialler, service }, { from: "user" }]);
  expect((await ls(broker)).relayed.map(({ name }) => name)).toEqual(["own"]);

  using again = broker.connect();
  using fresh = again.mint([{ rights: ["offer"], name: "own" }]);
  using other = BrokerLink.connect({ name: "other", env: handDown(broker, fresh) });
  expect(() => other.offer("own")).toThrow(/^Cannot offer "own": process \d+ .* does already; /); // of the same process
  again.offer("own");
}, 60_000);

test("a broker that was killed is there again although nobody asks for one", async () => {
  await using broker = new TestBroker(RULES);
  using _things = await Things.make(broker);
  await untilHeld(broker, ALL_FILES);
  const killed = await endBroker(broker, "SIGKILL");
  await waitUntil(() => brokersAt(broker.socketPath).some((pid) => pid !== killed), "the next broker");
  await waitUntil(
    () => broker.log.includes("Carried on from an earlier broker: 2 channels, 1 context, 1 offer"),
    "it to know",
  );
}, 60_000);

test("what was offered quietly is taken quietly from the next broker, too", async () => {
  await using broker = new TestBroker(RULES);
  using before = broker.connect();
  using left = before.offer("queue");
  for (const quiet of [true, false]) {
    using job = memfdCreate("shmlink:job");
    left.publish([job], { quiet });
  }
  await untilHeld(broker, 3);
  await endBroker(broker, "SIGKILL");
  using giver = broker.connect();
  using offer = giver.offer("queue");
  using taker = broker.connect();
  for (let count = 0; count < 2; count++) taker.take("queue")[Symbol.dispose]();
  expect(giver.wait(() => offer.taken.length > 0, 10_000)).toBe("done");
  expect(offer.taken.map(({ bundle }) => bundle)).toEqual([2]); // told in their order
}, 60_000);

test("what is offered to the next broker again is the same bundle, with the same number", async () => {
  await using broker = new TestBroker(RULES);
  using before = broker.connect();
  using job = memfdCreate("shmlink:job");
  using copied = memfdCreate("shmlink:copied");
  before.offer("queue").publish([job]);
  before.offer("copies").publish([copied], { keep: true });
  await untilHeld(broker, 3);
  await endBroker(broker, "SIGKILL");
  using giver = broker.connect();
  using queue = giver.offer("queue");
  using copies = giver.offer("copies");
  expect([queue.publish([job]), copies.publish([copied], { keep: true })]).toEqual([1, 1]);
  for (const { details } of giver.list().filter(({ kind }) => kind === "relayed"))
    expect(details).toMatchObject({ published: 1, waiting: 1 });
  expect([queue.publish([copied]), copies.publish([job], { keep: true })]).toEqual([2, 2]);
}, 60_000);

/** Runs `bin/shmlink.ts` as who ignores that its children end. @returns a child to be waited for */
function runIgnoring(broker: TestBroker, ...words: readonly string[]): number {
  using nothing = open("/dev/null", constants.O_RDWR);
  const fds = [0, 1, 2].map((to) => ({ from: nothing.number, to }));
  const env = Object.entries(broker.env).map(([name, value]) => `${name}=${value}`);
  const argv = [process.execPath, ENTRY, ...words];
  return execute({ path: process.execPath, argv, env, fds, ignoredSignals: [constants.SIGCHLD] }).pid;
}

test("who was started with SIGCHLD ignored starts a broker", async () => {
  await using broker = new TestBroker(RULES);
  expect(waitForChild(runIgnoring(broker, "ls"), true)).toEqual({ kind: "exited", code: 0 });
  broker.connect({ start: false }).close();
});

test("a broker that was started with SIGCHLD ignored goes on when it has started who holds", async () => {
  using later = new DisposableStack();
  await using broker = new TestBroker(RULES);
  const pid = runIgnoring(broker, "broker", `--config=${broker.configPath}`);
  later.defer(() => void waitForChild(pid, true));
  (await connectWhenListening(broker)).close();
  using things = await Things.make(broker);
  await untilHeld(broker, ALL_FILES);
  await expectAllThere(broker, things, await kept(broker));
  expect(brokersAt(broker.socketPath)).toEqual([pid]);
});

for (const runtime of RUNTIMES) {
  test(`a broker on ${runtime.name} leaves what there is to the next one`, async () => {
    await using broker = new TestBroker(RULES);
    const [program = "", ...words] = runtime.command("bin/shmlink.ts", "ls");
    await once(spawn(program, words, { env: broker.env, stdio: "ignore" }), "exit"); // which starts the broker
    using things = await Things.make(broker);
    await untilHeld(broker, ALL_FILES);
    const before = await kept(broker);
    await endBroker(broker, "SIGKILL");
    await expectAllThere(broker, things, before);
  }, 60_000);
}

test("a broker in the foreground hands over to the next one that is started so", async () => {
  await using broker = new TestBroker(RULES);
  const foreground = (): ChildProcess =>
    spawn(process.execPath, [ENTRY, "broker", `--config=${broker.configPath}`], { env: broker.env, stdio: "ignore" });
  const first = foreground();
  (await connectWhenListening(broker)).close();
  using things = await Things.make(broker);
  await untilHeld(broker, ALL_FILES);
  const before = await kept(broker);
  first.kill("SIGKILL");
  await waitUntil(() => !isRunning(first.pid ?? 0), "the first one to be gone");
  await new Promise((resolve) => setTimeout(resolve, 300)); // nobody starts one with other rules meanwhile
  expect(brokersAt(broker.socketPath)).toEqual([]);
  const second = foreground();
  (await connectWhenListening(broker)).close();
  await expectAllThere(broker, things, before);
  using link = broker.connect();
  expect(brokerPid(link)).toBe(second.pid ?? 0);
}, 60_000);

test("what ends while there is no broker is not listed by the next one, and with nothing to hold the holder ends", async () => {
  await using broker = new TestBroker();
  broker.connect().close();
  await using listener = new Staying(broker, "listen", "talk");
  await waitUntil(() => namesOf(broker).includes("talk"), "the name");
  await using dialler = new Staying(broker, "dial", "talk");
  await untilHeld(broker, 3);
  kill(broker.pid, constants.SIGSTOP); // it hears of nothing any more
  for (const { child } of [listener, dialler]) child.kill("SIGKILL");
  await waitUntil(() => listener.closed && dialler.closed, "both sides to be gone");
  await endBroker(broker, "SIGKILL");
  await waitUntil(() => broker.log.includes("Carried on from an earlier broker: 0 channels"), "the next broker");
  expect((await ls(broker)).channels).toEqual([]);
  const [holder = 0] = broker.holders();
  await endBroker(broker, "SIGTERM");
  await waitUntil(() => !isRunning(holder), "the holder to end");
  expect(existsSync(`${broker.socketPath}.held`)).toBe(false);
}, 60_000);

requires.test(
  [requires.root(), requires.program("setpriv", "util-linux")],
  "a holder of another user is not believed, and no other user is handed anything",
  async () => {
    await using broker = new TestBroker(RULES);
    chmodSync(broker.directory, 0o1777);
    const other = (mode: string): string[] => [
      "--reuid=65534",
      "--clear-groups",
      process.execPath,
      join(CHECKOUT, "test/fixtures/survival/stranger.ts"),
      mode,
      `${broker.socketPath}.held`,
    ];
    const liar = spawn("setpriv", other("lie"), { stdio: ["ignore", "pipe", "inherit"] });
    const lies = once(liar.stdout, "data");
    await lies;
    broker.connect().close();
    expect(broker.log).toContain("of somebody else: what it holds is not believed");
    liar.kill("SIGKILL");
    await once(liar, "exit");
    rmSync(`${broker.socketPath}.held`);
    await endBroker(broker, "SIGKILL");
    using _things = await Things.make(broker);
    await untilHeld(broker, ALL_FILES);
    chmodSync(`${broker.socketPath}.held`, 0o666);
    kill(broker.pid, constants.SIGSTOP); // the holder listens to nobody while there is a broker
    const [killed] = brokersAt(broker.socketPath);
    const asking = spawn("setpriv", other("ask"), { stdio: ["ignore", "pipe", "inherit"] });
    let answer = "";
    asking.stdout.on("data", (chunk: Buffer) => (answer += chunk.toString()));
    await waitUntil(() => answer.includes("connected"), "the stranger to be first in the queue");
    kill(killed ?? 0, constants.SIGKILL);
    await once(asking, "close");
    expect(answer).toBe("connected\nnothing\n");
  },
  60_000,
);

requires.test(
  [machine],
  "who holds waits for nothing that takes for ever to close, and the next broker carries on all the rest",
  async () => {
    await using broker = new TestBroker(RULES);
    using things = await Things.make(broker);
    await untilHeld(broker, ALL_FILES);
    const before = await kept(broker);
    using lingering = new Lingering();
    const [holder = 0] = broker.holders();
    const file = readlinkSync(`/proc/self/fd/${lingering.fd.number}`);
    const isHeld = (): boolean => openFds(holder).some((entry) => entry.endsWith(` → ${file}`));
    using link = broker.connect();
    const offer = link.offer("slow");
    offer.publish([lingering.fd]);
    await waitUntil(isHeld, "it to be held");
    lingering.fd.close();
    offer.close();
    await waitUntil(() => !isHeld(), "it to be let go of");
    await endBroker(broker, "SIGKILL");
    await expectAllThere(broker, things, before);
  },
  60_000,
);

test("a holder that is out of descriptors hands over when it has some again", async () => {
  await using broker = new TestBroker(RULES);
  using things = await Things.make(broker);
  await untilHeld(broker, ALL_FILES);
  const before = await kept(broker);
  const [holder = 0] = broker.holders();
  const limit = getFileLimit(holder);
  setFileLimit({ ...limit, soft: 3n }, holder);
  await endBroker(broker, "SIGKILL");
  const listing = kept(broker); // which starts the next one, which waits
  await new Promise((resolve) => setTimeout(resolve, 500));
  expect(broker.holders()).toEqual([holder]);
  setFileLimit(limit, holder);
  expect(await listing).toEqual(before);
  await expectAllThere(broker, things, before);
}, 60_000);

test("a broker whose holder was killed says so and goes on", async () => {
  await using broker = new TestBroker(RULES);
  using things = await Things.make(broker);
  await untilHeld(broker, ALL_FILES);
  for (const pid of broker.holders()) kill(pid, constants.SIGKILL);
  using link = broker.connect({ wake: true });
  const [near, far] = await openChannel(link, "later", "both");
  using _n = near;
  using _f = far;
  await waitUntil(() => broker.log.includes("There is no process to hold descriptors"), "the warning");
  say(near, far, "as ever");
  say(things.both[0], things.both[1], "as ever");
  expect((await ls(broker)).channels).toHaveLength(3);
}, 60_000);

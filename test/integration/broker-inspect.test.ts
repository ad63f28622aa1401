/** What inspect says of one thing beyond its counters: the rule that allowed it, and by which rights. */
import { expect, test } from "bun:test";
import { addSeals, constants, ftruncate, memfdCreate, pipe } from "../../ffi/mod.ts";
import type { Channel } from "../../lib/channel/channel.ts";
import { BrokerLink } from "../../lib/client/broker-link.ts";
import { BrokerQuery } from "../../lib/client/broker-query.ts";
import type { GrantSpec } from "../../lib/client/grant.ts";
import { SHMLINK_MANAGER_V1_KIND } from "../../lib/protocol/shmlink-v1.gen.ts";
import { listenOn } from "../../lib/transport/listen.ts";
import { FALLBACK } from "../../lib/util/fallback-reason.ts";
import { TestBroker, waitUntil } from "../helpers/broker.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { enter, handDown } from "../helpers/handed-down.ts";
import { message, RawPeer, text } from "../helpers/raw-peer.ts";

expectNoFdLeaks();

type Json = Readonly<Record<string, unknown>>;

async function inspect(broker: TestBroker, what: string | number): Promise<Json> {
  const { code, stdout, stderr } = await broker.run(["inspect", String(what), "--json"]);
  expect([code, stderr]).toEqual([0, ""]);
  return JSON.parse(stdout) as Json;
}

async function connectTo(link: BrokerLink, holder: BrokerLink, name: string): Promise<readonly [Channel, Channel]> {
  using service = holder.listen(name);
  const [near, far] = await Promise.all([link.dialAsync(name), service.acceptAsync()]);
  if (far === undefined) throw new Error("Nothing was accepted");
  return [near, far];
}

/** Registers a wrapped listener as its supervisor does, until the link is closed. */
function registerListener(broker: TestBroker): BrokerQuery {
  const link = BrokerQuery.connect({ name: "supervisor", env: broker.env });
  using counters = memfdCreate("counters");
  ftruncate(counters, 4096);
  addSeals(counters, constants.F_SEAL_SHRINK | constants.F_SEAL_GROW);
  const about = { address: "127.0.0.1", port: 8123, path: "/tmp/nobody.sock", flags: 0, pid: 0 };
  const listener = link.requestListener({ ...about, counters }, () => undefined);
  expect(link.wait(() => listener.settled, 10_000)).toBe("done");
  expect(listener.failure).toBeUndefined();
  return link;
}

/** One rule for each action, each with its own line. */
const RULES = [
  '[[allow]]\nname = "owner"\nuid = "owner"\naction = ["connect", "list"]\n',
  '[[allow]]\nname = "names"\nuid = "owner"\naction = "listen"\n',
  '[[allow]]\nname = "calls"\nuid = "owner"\naction = "dial"\n',
  '[[allow]]\nname = "ports"\nuid = "owner"\naction = "register"\n',
  '[[allow]]\nname = "sandboxes"\nuid = "owner"\naction = "context"\n',
  '[[allow]]\nname = "owner-fds"\nuid = "owner"\naction = "offer"\nfd = "pipe"\n',
  '[[allow]]\nname = "memory"\nuid = "owner"\naction = "offer"\nfd = "memfd"\n',
];

test("inspect names the rule that allowed it, with file and line, whatever it is; so does ls", async () => {
  await using broker = new TestBroker(RULES.join(""));
  const at = (line: number): string => `(${broker.configPath}:${line})`;
  using link = broker.connect({ wake: true });
  using _service = link.listen("files");
  const [near, far] = await connectTo(link, link, "talk");
  using _near = near;
  using _far = far;
  using _supervisor = registerListener(broker);
  using offer = link.offer("memory");
  using memory = memfdCreate("memory");
  offer.publish([memory]);
  using listener = listenOn(`${broker.directory}/context.sock`);
  const { reader, writer } = pipe();
  using closeFd = reader;
  using _open = writer;
  link.createContext({ engine: "test", app: "a", instance: "1", listener, closeFd });

  const rules = {
    files: `names ${at(5)}`,
    [near.channelId]: `calls ${at(9)}`,
    8123: `ports ${at(13)}`,
    memory: `owner-fds ${at(21)}`,
    "test/a/1": `sandboxes ${at(17)}`,
  };
  for (const [what, rule] of Object.entries(rules)) expect(await inspect(broker, what)).toMatchObject({ rule });
  expect(await inspect(broker, "memory")).toMatchObject({ fdsRule: `memory ${at(26)}` });
  expect((await broker.run(["inspect", "files"])).stdout).toContain(`rule      names ${at(5)}\n`);
  const { services, listeners, relayed, contexts } = JSON.parse((await broker.run(["ls", "--json"])).stdout) as Record<
    string,
    Json[]
  >;
  for (const listed of [services, listeners, relayed, contexts])
    expect(listed?.map(({ rule }) => String(rule).replace(/.* \(/, "("))).toEqual([expect.stringMatching(/:\d+\)$/)]);
});

/** Of the only one that was minted. */
function idOfConnection(link: BrokerLink): number {
  return link.list().find(({ kind }) => kind === "connection")?.id ?? 0;
}

test("inspect tells the rights of each side: what was granted to a minted connection, its user's own of any other", async () => {
  await using broker = new TestBroker();
  using link = broker.connect({ wake: true });
  using holder = enter(broker, link, [
    { rights: ["dial", "send"], name: "l*" },
    { rights: ["listen", "offer"], name: "web/*" },
    { rights: ["take"], name: "log" },
  ]);
  const [near, far] = await connectTo(holder, link, "log");
  using _near = near;
  using _far = far;
  using _service = holder.listen("web/a");
  using _offer = holder.offer("web/o");
  using _own = link.listen("own");
  const connection = idOfConnection(link);
  const { rights } = await inspect(broker, near.channelId);
  expect(rights).toEqual({
    dialler: { directions: ["send"], from: "grant", connection, grants: ["dial,send:l*"] },
    service: { directions: ["receive"], from: "user" },
  });
  const web = { from: "grant", connection, grants: ["listen,offer,send,receive:web/*"] };
  for (const [what, wanted] of [
    ["web/a", web],
    ["web/o", web],
    ["own", { from: "user" }],
  ] as const)
    expect((await inspect(broker, what))["rights"]).toEqual(wanted);
  expect((await broker.run(["inspect", String(near.channelId)])).stdout).toContain(
    `rights\n  dialler\n    directions  send\n    from        grant\n    connection  ${connection}\n    grants      dial,send:l*\n  service\n`,
  );
  const { channels } = JSON.parse((await broker.run(["ls", "--json"])).stdout) as Record<string, Json[]>;
  expect(channels?.[0]).not.toHaveProperty("rights"); // which would be said ten thousand times
});

test("a context's rights are said to be its own, and more grants than there is room for are counted", async () => {
  await using broker = new TestBroker('[[allow]]\nengine = "test"\naction = ["connect", "listen"]\n');
  using link = broker.connect();
  const path = `${broker.directory}/context.sock`;
  using listener = listenOn(path);
  const { reader, writer } = pipe();
  using closeFd = reader;
  using _open = writer;
  link.createContext({ engine: "test", app: "a", instance: "1", listener, closeFd });
  using inside = BrokerLink.connect({ name: "inside", env: { ...broker.env, SHMLINK_SOCKET: path } });
  inside.listen("inside");
  expect((await inspect(broker, "inside"))["rights"]).toEqual({ from: "context" });
  expect((await inspect(broker, "test/a/1"))["rights"]).toEqual({ from: "user" });

  const name = "n".repeat(128);
  const patterns = Array.from({ length: 9 }, (_, index) => `${"n".repeat(127 - index)}*`);
  using holder = enter(
    broker,
    link,
    patterns.map((each) => ({ rights: ["listen"], name: each })),
  );
  holder.listen(name);
  expect((await inspect(broker, name))["rights"]).toEqual({
    from: "grant",
    connection: idOfConnection(link),
    grants: patterns.slice(0, 2).map((each) => `listen,send,receive:${each}`),
    leftOut: 7,
  });
});

test("reasons for TCP are told in words of ours, and count of who may resolve the address alone", async () => {
  await using broker = new TestBroker();
  using _registered = registerListener(broker);
  using parent = broker.connect();
  const report = (link: BrokerQuery, reason: string): void => link.reportFallback("127.0.0.1", 8123, reason);
  const sendFrom = (grants: readonly GrantSpec[], ...reasons: readonly string[]): void => {
    using minted = parent.mint(grants);
    using link = BrokerQuery.connect({ name: "client", env: handDown(broker, minted) });
    for (const reason of reasons) report(link, reason);
    link.sync();
  };
  const free = Array.from({ length: 20 }, (_, index) => `your disk is on fire ${index}`);
  const known = [FALLBACK.noPort, 'connect "/tmp/nobody.sock": connection refused (ECONNREFUSED)'];
  sendFrom([], ...free, ...known);
  sendFrom([{ rights: ["dial"], name: "tcp:127.0.0.1:1" }], ...known);
  expect(await inspect(broker, 8123)).not.toHaveProperty("fallbacks");
  sendFrom([{ rights: ["dial"], name: "tcp:*" }], ...free, "it says so (EVIL)", ...known);
  expect(await inspect(broker, 8123)).toMatchObject({
    fallbacks: { other: 21, [FALLBACK.noPort]: 1, "connection refused (ECONNREFUSED)": 1 },
  });
});

test("a minted connection is listed with who minted it, from which one, what it may do and what was taken from it", async () => {
  await using broker = new TestBroker(
    '[[allow]]\nname = "owner"\nuid = "owner"\naction = ["connect", "delegate", "list"]\n',
  );
  using link = broker.connect();
  using minted = link.mint([{ rights: ["dial", "listen", "delegate"], name: "web/*" }]);
  using holder = BrokerLink.connect({ name: "worker", env: handDown(broker, minted) });
  using less = holder.mint([{ rights: ["dial"], name: "web/a" }]);
  const connections = (): Json[] =>
    link
      .list()
      .flatMap(({ kind, id, name, pid, details }) => (kind === "connection" ? { id, name, pid, ...details } : []));
  const rule = `owner (${broker.configPath}:1)`;
  const [first, second] = connections();
  const all = "dial,listen,delegate,send,receive:web/*";
  const common = { pid: process.pid, rule, revoked: [] };
  expect(first).toEqual({
    ...common,
    id: first?.["id"],
    name: `connection:${first?.["id"]}`,
    program: "worker",
    grants: [all],
  });
  const unused = { program: "", grants: ["dial,send,receive:web/a"], mintedFrom: first?.["id"] };
  expect(second).toEqual({ ...common, ...unused, id: second?.["id"], name: `connection:${second?.["id"]}` });

  minted.revoke(["listen"], "web/*");
  expect(connections()).toMatchObject([
    { grants: ["dial,delegate,send,receive:web/*"], revoked: ["listen:web/*"] },
    { grants: ["dial,send,receive:web/a"], revoked: [], revokedAbove: true },
  ]);
  minted.revoke();
  expect(connections()[0]).toMatchObject({ grants: [], revoked: [all] });
  expect(connections()[0]).not.toHaveProperty("revokedAbove");

  const whole = await inspect(broker, Number(first?.["id"]));
  const owner = { uid: process.geteuid?.(), pid: process.pid, exe: process.execPath };
  expect(whole).toMatchObject({ kind: "connection", owner, program: "worker", grants: [], revoked: [all], rule });
  const { connections: listed } = JSON.parse((await broker.run(["ls", "--json"])).stdout) as Record<string, Json[]>;
  expect(listed).toMatchObject([{ id: first?.["id"] }, { id: second?.["id"] }]);
  const table = (await broker.run(["ls"])).stdout;
  expect(table).toMatch(/^Minted connections\n +ID {2}MINTED BY +CALLED +GRANTS +REVOKED\n/m);
  expect(table).toMatch(new RegExp(`${first?.["id"]} +${process.pid} \\S+ +worker +- +${all.replace("*", "\\*")}\n`));
  expect(table).toMatch(/ - +dial,send,receive:web\/a +above\n/);

  less.close();
  holder.close();
  link.sync();
  await waitUntil(() => connections().length === 0, "both connections to have ended");
});

/** Opcodes of shmlink_manager_v1 and shmlink_listing_v1. */
const LIST = 6;
const DONE = 1;

test("minted connections are shown to who may inspect them, and not to clients that do not know of them", async () => {
  await using broker = new TestBroker();
  using link = broker.connect();
  const shown = (grants: readonly GrantSpec[]): number => {
    using holder = enter(broker, link, grants);
    return holder.list().filter(({ kind }) => kind === "connection").length;
  };
  using _one = enter(broker, link, [{ rights: ["dial"], name: "db" }]);
  const id = idOfConnection(link);
  expect(shown([{ rights: ["inspect"], name: "*" }])).toBeGreaterThan(0);
  expect(shown([{ rights: ["inspect"], name: `connection:${id}` }])).toBe(1);
  expect(shown([{ rights: ["inspect"], name: "db" }])).toBe(0);
  using old = new RawPeer(broker.socketPath);
  old.greet();
  old.send(message(3, LIST, 4, ...text("")));
  const kinds: number[] = [];
  for (let event = old.next(); event?.sender !== 4 || event.opcode !== DONE; event = old.next())
    if (event?.sender === 4) kinds.push(event.body.getUint32(0, true));
  expect(kinds).toEqual([SHMLINK_MANAGER_V1_KIND.broker]);
});

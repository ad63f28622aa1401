/** Minted connections: what was granted and nothing else, less on the way down, and taken away again. */
import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { constants, kill, memfdCreate, pipe, sendmsg, socketpair } from "../../ffi/mod.ts";
import { BrokerLink } from "../../lib/client/broker-link.ts";
import { type GrantSpec, type Minted, RIGHTS } from "../../lib/client/grant.ts";
import { WL_DISPLAY_ERROR } from "../../lib/protocol/shmlink-v1.gen.ts";
import { listenOn } from "../../lib/transport/listen.ts";
import { TestBroker, waitUntil } from "../helpers/broker.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { handDown } from "../helpers/handed-down.ts";
import { message, RawPeer, text } from "../helpers/raw-peer.ts";
import { refusal } from "../helpers/refusal.ts";
import { endBroker } from "../helpers/staying.ts";

expectNoFdLeaks();

/** Connects through a minted connection, as a program that inherited it. */
function enter(broker: TestBroker, minted: Minted, wake = false): BrokerLink {
  return BrokerLink.connect({ name: "holder", wake, env: handDown(broker, minted) });
}

const DB: GrantSpec = { rights: ["dial"], name: "db" };

test("a minted connection can do what was granted, and nothing else", async () => {
  await using broker = new TestBroker();
  using parent = broker.connect({ wake: true });
  using service = parent.listen("db");
  using other = parent.listen("other");
  using minted = parent.mint([
    DB,
    { rights: ["listen", "inspect"], name: "web/*" },
    { rights: ["take"], name: "gift" },
  ]);
  using holder = enter(broker, minted, true);
  const [channel, accepted] = await Promise.all([holder.dialAsync("db"), service.acceptAsync()]);
  channel.close();
  accepted?.close();
  expect(refusal(() => holder.dial(other.name))).toBe(
    'denied: Cannot dial "other": it was not granted to this connection',
  );
  expect(refusal(() => holder.listen("db2"))).toStartWith("denied: ");
  expect(refusal(() => holder.offer("gift"))).toStartWith("denied: ");
  expect(refusal(() => holder.take("other"))).toStartWith("denied: ");
  holder.listen("web/mine");
  expect(holder.list().map(({ kind, name }) => `${kind} ${name}`)).toEqual(["broker broker", "service web/mine"]);
  expect(holder.list("db")).toEqual([]);
  using offer = parent.offer("gift");
  using gift = memfdCreate("gift");
  offer.publish([gift]);
  using delivery = holder.take("gift");
  expect(delivery.items.length).toBe(1);
});

test("a child passes on less, never more, and what the policy refuses its maker is refused to it", async () => {
  await using broker = new TestBroker('[[deny]]\nname = "no-secrets"\naction = "listen"\nservice = "web/secret"\n');
  using parent = broker.connect();
  using minted = parent.mint([{ rights: ["listen", "offer", "delegate"], name: "web/*" }]);
  using child = enter(broker, minted);
  expect(refusal(() => child.mint([{ rights: ["listen"], name: "*" }]))).toMatch(
    /^denied: .*rights that this one cannot pass on/,
  );
  expect(broker.log).toContain("Refused to mint a connection: it would have rights that this one cannot pass on (uid ");
  expect(refusal(() => child.mint([{ rights: ["dial"], name: "web/a" }]))).toStartWith("denied: ");
  using less = child.mint([
    { rights: ["listen"], name: "web/?" },
    { rights: ["listen"], name: "web/secret" },
  ]);
  using grandchild = enter(broker, less);
  grandchild.listen("web/a");
  expect(refusal(() => grandchild.listen("web/ab"))).toStartWith("denied: ");
  expect(refusal(() => grandchild.listen("web/secret"))).toMatch(/rule "no-secrets" at /);
  expect(refusal(() => grandchild.mint([{ rights: ["listen"], name: "web/a" }]))).toStartWith("denied: ");
  expect(broker.log).toMatch(
    / Refused to listen as "web\/secret": user \d+ may not listen under it \(.*rule "no-secrets /,
  );
  const used = broker.log.match(/(?<=Used grant )listen "[^"]*"/g);
  expect(used).toEqual(['listen "web/a"']); // a refusal is no use
});

test("the connections of a line have so many grants together and no more", async () => {
  await using broker = new TestBroker();
  using parent = broker.connect();
  const grants = Array.from({ length: 64 }, (): GrantSpec => ({ rights: ["dial", "delegate"], name: "db" }));
  using minted = parent.mint(grants);
  using child = enter(broker, minted);
  using more = child.mint(grants);
  using grandchild = enter(broker, more);
  expect(refusal(() => grandchild.mint([DB]))).toBe(
    "denied: Cannot mint a connection: with those that it was minted from it would have more than 128 grants",
  );
});

test("a line of minted connections has an end, also where all but its last are closed, and can be revoked", async () => {
  await using broker = new TestBroker();
  using first = broker.connect();
  const all: GrantSpec[] = [{ rights: ["delegate"], name: "*" }];
  using minted = first.mint(all);
  let last = enter(broker, minted);
  for (let depth = 2; depth <= 16; depth++) {
    using next = last.mint(all);
    last.close();
    last = enter(broker, next);
  }
  for (const grants of [all, []])
    expect(refusal(() => last.mint(grants))).toBe(
      "denied: Cannot mint a connection: this one is the 16th of a line of minted connections, and the last that there may be",
    );
  minted.revoke();
  last.sync();
  expect(last.revoked).toMatchObject([{ rights: ["delegate"], name: "*" }]);
  last.close();
});

test("revoking withdraws what stood for it, all the way down, and tells the holders; the audit says so", async () => {
  await using broker = new TestBroker();
  using parent = broker.connect();
  using watcher = broker.connect();
  using minted = parent.mint([{ rights: ["listen", "offer", "delegate"], name: "a*" }]);
  using child = enter(broker, minted);
  using less = child.mint([{ rights: ["listen"], name: "ab" }]);
  using grandchild = enter(broker, less);
  child.offer("ao");
  grandchild.listen("ab");
  const names = (): string[] =>
    watcher
      .list()
      .flatMap(({ kind, name }) => (kind === "broker" || kind === "connection" ? [] : name))
      .sort();
  const minteds = watcher.list().flatMap(({ kind, id }) => (kind === "connection" ? [id] : []));
  const [first, second] = minteds.sort((one, other) => one - other);
  expect(names()).toEqual(["ab", "ao"]);
  minted.revoke(["listen"]);
  expect(names()).toEqual(["ao"]);
  for (const link of [child, grandchild]) {
    link.sync();
    expect(link.revoked).toEqual([{ rights: ["listen"], name: "a*" }]);
  }
  expect(refusal(() => grandchild.listen("ab"))).toStartWith("denied: ");
  minted.revoke();
  expect(names()).toEqual([]);
  await waitUntil(() => /Revoked listen[a-z,]*:a\*/.test(broker.log), "the audit");
  const who = `uid ${process.geteuid?.()}, pid ${process.pid}`;
  for (const line of [
    `:a* (${who}, minted ${first})`,
    `Granted listen,send,receive:ab (${who}, connection ${first}, minted ${second})`,
    `Used grant listen "ab" (${who}, connection ${second})`,
    `Refused to listen as "ab": it was not granted to this connection (${who}, connection ${second})`,
    `:a* (${who}, minted ${first})`,
  ])
    expect(broker.log).toContain(line);
});

test("what a connection is shown by its right to inspect, and what is left out, is one line of the audit a listing", async () => {
  await using broker = new TestBroker();
  using parent = broker.connect();
  for (const name of ["web/a", "db", "log"]) parent.listen(name);
  using minted = parent.mint([{ rights: ["inspect"], name: "web/*" }]);
  using holder = enter(broker, minted);
  for (const selector of ["", "web/a", "db", "nothing"]) {
    const told = holder.list(selector).flatMap(({ kind, details }) => (kind === "broker" ? Object.keys(details) : []));
    expect(told).toEqual(selector === "" ? ["version", "uptimeMs", "idleMs"] : []); // not how much there is
  }
  parent.list();
  minted.revoke();
  holder.list();
  const audit = (): string[] =>
    broker.log.match(/(?<= (info|warn) )(Used grant|Refused to) inspect.*(?= \(uid \d+, pid)/g) ?? [];
  await waitUntil(() => audit().length >= 4, "the audit");
  expect(audit()).toEqual([
    "Used grant inspect: 3 of 4 left out, not granted to this connection",
    'Used grant inspect "web/a"',
    'Refused to inspect "db": 1 of 1 left out, not granted to this connection',
    "Refused to inspect: 4 of 4 left out, not granted to this connection",
  ]);
});

test("who waits when a right is revoked waits no longer, and hears why", async () => {
  await using broker = new TestBroker();
  using parent = broker.connect();
  using minted = parent.mint([{ rights: ["listen", "offer", "take"], name: "a*" }]);
  using holder = enter(broker, minted, true);
  using service = holder.listen("as");
  using offer = holder.offer("ao");
  using gift = memfdCreate("gift");
  const iterated = Array.fromAsync(service);
  const accepted = service.acceptAsync();
  const taken = holder.takeAsync("at", { waitMs: -1 }).catch(String);
  holder.sync();
  minted.revoke();
  expect(await taken).toBe('FailureError: Cannot take "at" any longer: the right was revoked');
  expect(await accepted).toBeUndefined();
  expect(await iterated).toEqual([]);
  expect(service.failure?.message).toBe('Cannot listen as "as" any longer: the right was revoked');
  const refused = 'denied: Cannot offer "ao" any longer: the right was revoked';
  expect(refusal(() => offer.publish([gift]))).toBe(refused);
  expect(service.accept()).toBeUndefined();
});

test("who blocks in accept() or publish() when a right is revoked is not left there", async () => {
  await using broker = new TestBroker();
  using parent = broker.connect();
  using minted = parent.mint([{ rights: ["listen", "offer"], name: "a*" }]);
  using holder = enter(broker, minted);
  using service = holder.listen("as");
  using offer = holder.offer("ao");
  using gift = memfdCreate("gift");
  minted.revoke(["offer"]); // what the broker says is read by the call
  expect(refusal(() => offer.publish([gift]))).toBe('denied: Cannot offer "ao" any longer: the right was revoked');
  minted.revoke();
  expect(service.accept(10_000)).toBeUndefined();
  expect(service.failure?.code).toBe("denied");
  expect(holder.revoked.map(({ name }) => name)).toEqual(["a*", "a*"]);
});

test("a right that another grant gives as well ends nothing", async () => {
  await using broker = new TestBroker();
  using parent = broker.connect();
  using minted = parent.mint([
    { rights: ["listen"], name: "a*" },
    { rights: ["listen", "take"], name: "ab" },
  ]);
  using holder = enter(broker, minted, true);
  using service = holder.listen("ab");
  using gift = memfdCreate("gift");
  const taken = holder.takeAsync("ab", { waitMs: -1 });
  holder.sync();
  minted.revoke(["listen"], "a*");
  holder.sync();
  expect([holder.revoked.length, service.failure]).toEqual([1, undefined]);
  parent.offer("ab").publish([gift]);
  using delivery = await taken;
  expect(delivery.items).toHaveLength(1);
});

test("on the wire what a revocation ends fails, after the manager has said what is gone, and a bundle is refused", async () => {
  await using broker = new TestBroker();
  using parent = broker.connect();
  using minted = parent.mint([{ rights: ["listen", "offer", "take"], name: "*" }]);
  using raw = new RawPeer(minted.fd.dup());
  using gift = memfdCreate("gift");
  raw.greet();
  raw.send(message(3, 1, 4, ...text("as"), 0));
  raw.send(message(3, 7, 5, ...text("ao")));
  raw.send(message(3, 8, 6, ...text("at"), 1));
  raw.send(message(1, 0, 7));
  const heard = (): string => {
    const { sender = 0, opcode = 0 } = raw.next() ?? {};
    return `${sender}.${opcode}`;
  };
  while (heard() !== "7.0");
  minted.revoke();
  raw.send(message(5, 1), [gift]);
  raw.send(message(5, 2, 0));
  const [DELETED, REVOKED, REFUSED] = ["1.1", "3.1", "5.3"];
  const said = Array.from({ length: 6 }, heard).filter((each) => each !== DELETED);
  expect(said.slice(0, 5)).toEqual([REVOKED, "4.1", "5.1", "6.2", REFUSED]);
});

test("a minted connection is not the broker's socket to relay, and ends with its last copy", async () => {
  await using broker = new TestBroker();
  using parent = broker.connect();
  using minted = parent.mint([{ rights: ["listen"], name: "x" }]);
  using offer = parent.offer("smuggled");
  expect(refusal(() => offer.publish([minted.fd]))).toContain("it is a socket of the broker");
  const holder = enter(broker, minted);
  holder.listen("x");
  holder.close();
  await waitUntil(() => !parent.list().some(({ name }) => name === "x"), "its service to be withdrawn");
});

test("SHMLINK_FD that names no connection is an error, never a way to more authority", async () => {
  await using broker = new TestBroker();
  broker.connect().close();
  for (const [value, why] of [
    ["x", /the number of an open descriptor from 3 on is wanted/],
    ["0", /from 3 on is wanted/],
    ["999", /it is not open, or no socket/],
    ["used", /the connection that was handed down is used already/],
  ] as const)
    expect(refusal(() => BrokerLink.connect({ name: "t", env: { ...broker.env, SHMLINK_FD: value } }))).toMatch(why);
  const { code, stderr } = await broker.run(["ls"]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
});

for (const code of ["implementation", "no_memory"] as const)
  test(`a connection that was handed down and is not let in says why: ${code}`, () => {
    const [fd, other] = socketpair(constants.SOCK_STREAM);
    using _other = other;
    sendmsg(other, message(1, 0, 1, WL_DISPLAY_ERROR[code], ...text("Cannot let you in: too many")));
    const env = handDown({ env: {} }, { fd });
    expect(() => BrokerLink.connect({ name: "t", env })).toThrow("The broker ended the connection: Cannot let you in");
  });

test("grants that no broker takes are refused, and the connection stays", async () => {
  await using broker = new TestBroker();
  using parent = broker.connect();
  using service = parent.listen("db");
  const none: GrantSpec = { rights: [], name: "db" };
  const many = (count: number): GrantSpec[] => Array.from({ length: count }, () => DB);
  for (const [grants, why] of [
    [
      [DB, { rights: ["dial"], name: "a b" }],
      'its grant names "a b", 1 to 128 of A-Z a-z 0-9 . _ : / @ - % [ ] * ? is wanted',
    ],
    [[none], /its grant on "db" has none of dial, listen, /],
    [many(65), "65 grants are too many, 64 is the most"],
  ] as const)
    expect(() => parent.mint(grants)).toThrow(why);
  parent.mint(many(64)).close();
  expect(parent.list("db").map(({ id }) => id)).toEqual([service.id]);
});

test("no right is one to make contexts", async () => {
  await using broker = new TestBroker();
  using parent = broker.connect();
  using minted = parent.mint([{ rights: RIGHTS, name: "*" }]);
  using holder = enter(broker, minted);
  using listener = listenOn(`${broker.directory}/c.sock`);
  const { reader, writer } = pipe();
  using closeFd = reader;
  using _writer = writer;
  const identity = { engine: "e", app: "a", instance: "i" };
  expect(refusal(() => holder.createContext({ ...identity, listener, closeFd }))).toBe(
    'denied: Cannot create context "e/a/i": it was not granted to this connection',
  );
  expect(broker.log).toContain('Refused to create context "e/a/i": it was not granted to this connection (uid ');
});

test("to mint a connection is an action of the policy, and the connection counts as one of its maker's user", async () => {
  await using broker = new TestBroker("[limits]\nmaxSessionsPerUser = 2\n");
  using parent = broker.connect();
  const first = parent.mint([DB]);
  expect(refusal(() => parent.mint([DB]))).toMatch(
    /^quota: .* would have 3 sessions, limits\.maxSessionsPerUser is 2;/,
  );
  first.fd.close();
  writeFileSync(broker.configPath, '[[deny]]\nname = "alone"\nuid = "any"\naction = "delegate"\n');
  kill(broker.pid, constants.SIGHUP);
  await waitUntil(() => broker.log.includes("Configuration read again"), "the new rules");
  expect(refusal(() => parent.mint([DB]))).toBe(
    `denied: Cannot delegate: user ${process.getuid?.()} may not delegate (rule "alone" at ${broker.configPath}:1)`,
  );
});

test("rights that do not exist, or come after the connection was made, are a breach of the protocol", async () => {
  await using broker = new TestBroker();
  broker.connect().close();
  for (const requests of [
    [message(4, 1, 0, ...text("x"))],
    [message(4, 1, 1024, ...text("x"))],
    [message(4, 1, 1, ...text("a b"))],
    [message(4, 2), message(4, 1, 1, ...text("x"))],
  ]) {
    using raw = new RawPeer(broker.socketPath);
    raw.greet();
    raw.send(message(3, 9, 4));
    for (const request of requests) raw.send(request);
    expect(raw.nextError()?.code).toBe(2);
  }
});

test("a minted connection ends with its broker: its channels stay, nothing more can be asked, and it can be minted again", async () => {
  await using broker = new TestBroker();
  const back = Promise.withResolvers<void>();
  using parent = broker.connect({ wake: true, onBroker: ({ kind }) => void (kind === "back" && back.resolve()) });
  using service = parent.listen("db");
  const grants: readonly GrantSpec[] = [DB, { rights: ["listen"], name: "web/mine" }];
  using minted = parent.mint(grants);
  using holder = enter(broker, minted, true);
  using own = holder.listen("web/mine");
  const [near, far] = await Promise.all([holder.dialAsync("db"), service.acceptAsync()]);
  using _near = near;
  using _far = far;
  const parked = service.acceptAsync(); // who waits is told at once
  await endBroker(broker, "SIGKILL");
  near.send(new Uint8Array([7]));
  expect((await far?.receiveAsync())?.data).toEqual(new Uint8Array([7]));
  expect(refusal(() => holder.list())).toStartWith("gone: ");
  expect(holder.ended).toBe(true);
  expect(own.accept()).toBeUndefined();
  await back.promise;
  using again = parent.mint(grants);
  using next = enter(broker, again, true);
  const [second, accepted] = await Promise.all([next.dialAsync("db"), parked]);
  second.close();
  accepted?.close();
}, 30_000);

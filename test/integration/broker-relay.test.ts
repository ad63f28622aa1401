/** Descriptors passed from one process to another: order, copies, waiting, what is refused, and what is left over. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import {
  addSeals,
  type BorrowedFd,
  borrowFd,
  constants,
  epollCreate,
  fstat,
  kill,
  memfdCreate,
  type OwnedFd,
  open,
  pipe,
  poll,
  read,
  sendmsg,
  socket,
  socketpair,
  write,
} from "../../ffi/mod.ts";
import { Broker } from "../../lib/broker/broker.ts";
import { builtInConfig } from "../../lib/config/schema.ts";
import { SILENT } from "../../lib/log.ts";
import { SHMLINK_OFFER_V1_PUBLISH_FLAGS } from "../../lib/protocol/shmlink-v1.gen.ts";
import { listenOn } from "../../lib/transport/listen.ts";
import { TestBroker, waitUntil } from "../helpers/broker.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { message, type RawEvent, RawPeer, text } from "../helpers/raw-peer.ts";
import { refusal } from "../helpers/refusal.ts";
import { makeRuntimeDir } from "../helpers/runtime-dir.ts";

expectNoFdLeaks();

function memfdWith(content: string): OwnedFd {
  const fd = memfdCreate("relay-test");
  write(fd, new TextEncoder().encode(content));
  return fd;
}

function inodeOf(fd: BorrowedFd): bigint {
  return fstat(fd).ino;
}

test("28 descriptors arrive in their order, are the same open files, and are gone from the broker", async () => {
  await using broker = new TestBroker();
  using giver = broker.connect();
  using taker = broker.connect();
  const before = await broker.fdCountAtRest();
  using offer = giver.offer("many");
  const sent = Array.from({ length: 28 }, (_, index) => memfdWith(`number ${index}`));
  expect(offer.publish(sent)).toBe(1);
  const inodes = sent.map(inodeOf);
  for (const fd of sent) fd.close();
  using delivery = taker.take("many");
  expect(delivery.fds.map(inodeOf)).toEqual(inodes);
  expect(delivery.items.every(({ type }) => type === "memfd")).toBe(true);
  expect(delivery.pid).toBe(process.pid);
  await waitUntil(() => broker.fdCount() === before, "the broker to have given all of them away");
  giver.list();
  expect(offer.taken).toEqual([{ bundle: 1, pid: process.pid, uid: process.geteuid?.() ?? 0 }]);
});

test("who offers is not told of what is quiet, and told of the rest", async () => {
  await using broker = new TestBroker();
  using giver = broker.connect();
  using offer = giver.offer("quiet");
  using one = memfdWith("1");
  offer.publish([one], { quiet: true });
  using unheard = giver.take("quiet");
  offer.publish([one]);
  using heard = giver.take("quiet");
  giver.sync(); // what the broker had to say before is there
  expect([unheard, heard].map(({ fds }) => fds.length)).toEqual([1, 1]);
  expect(offer.taken.map(({ bundle }) => bundle)).toEqual([2]);
});

test("who offers hears that it was taken though the broker is told to end right after, and does not offer it again", async () => {
  await using broker = new TestBroker();
  using giver = broker.connect({ reconnect: false });
  using taker = broker.connect({ reconnect: false });
  using offer = giver.offer("heard");
  using one = memfdWith("1");
  offer.publish([one]);
  taker.take("heard")[Symbol.dispose]();
  kill(broker.pid, constants.SIGTERM);
  expect(giver.wait(() => offer.taken.length === 1, 10_000)).toBe("done");
});

test("bundles go to one taker each, first come first served, on both sides", async () => {
  await using broker = new TestBroker();
  using giver = broker.connect();
  using offer = giver.offer("queue");
  using early = broker.connect({ wake: true });
  const waiting = early.takeAsync("queue", { waitMs: -1 });
  using first = memfdWith("1");
  using second = memfdWith("2");
  using third = memfdWith("3");
  for (const fd of [first, second, third]) offer.publish([fd]);
  using got = await waiting;
  using later = giver.take("queue");
  using last = giver.take("queue");
  expect([got, later, last].map(({ fds }) => fds.map(inodeOf))).toEqual(
    [first, second, third].map((fd) => [inodeOf(fd)]),
  );
  expect(refusal(() => giver.take("queue"))).toBe(
    'unknown-name: Cannot take "queue": there is nothing to take at the moment',
  );
});

test("with keep everyone gets a copy, until something else is published", async () => {
  await using broker = new TestBroker();
  using link = broker.connect();
  using offer = link.offer("kept");
  using old = memfdWith("old");
  using fresh = memfdWith("fresh");
  offer.publish([old], { keep: true });
  for (let turn = 0; turn < 3; turn++) {
    using delivery = link.take("kept");
    expect(delivery.fds.map(inodeOf)).toEqual([inodeOf(old)]);
  }
  offer.publish([fresh], { keep: true });
  using delivery = link.take("kept");
  expect(delivery.fds.map(inodeOf)).toEqual([inodeOf(fresh)]);
});

test("who waits for a name that nobody offers yet is served when it comes, and may give up", async () => {
  await using broker = new TestBroker();
  using taker = broker.connect({ wake: true });
  using giver = broker.connect();
  expect(refusal(() => taker.take("later"))).toBe('unknown-name: Cannot take "later": nobody offers this name');
  expect(refusal(() => taker.take("later", { waitMs: 1 }))).toStartWith("timeout: ");
  const waiting = taker.takeAsync("later", { waitMs: -1 });
  using offer = giver.offer("later");
  using fd = memfdWith("x");
  offer.publish([fd]); // not lost to the one that gave up
  using delivery = await waiting;
  expect(delivery.fds.map(inodeOf)).toEqual([inodeOf(fd)]);
});

test("to wait for no time is one try: it has what is there, and loses nothing", async () => {
  await using broker = new TestBroker();
  using link = broker.connect({ wake: true });
  expect(refusal(() => link.take("queue", { waitMs: 0 }))).toStartWith("unknown-name: ");
  using offer = link.offer("queue");
  using fd = memfdWith("x");
  for (const take of [() => link.take("queue", { waitMs: 0 }), () => link.takeAsync("queue", { waitMs: 0 })]) {
    offer.publish([fd]);
    using delivery = await take();
    expect(delivery.fds.map(inodeOf)).toEqual([inodeOf(fd)]);
  }
});

test("what is relayed still works: a pipe carries what was written before, a socket both ways", async () => {
  await using broker = new TestBroker();
  using link = broker.connect();
  using offer = link.offer("pair");
  const [near, far] = socketpair(constants.SOCK_STREAM);
  const { reader, writer } = pipe();
  write(writer, new TextEncoder().encode("through the pipe"));
  offer.publish([far, reader]);
  for (const fd of [far, reader]) fd.close();
  using delivery = link.take("pair");
  const [end, readEnd] = delivery.fds;
  const bytes = new Uint8Array(100);
  const take = (fd: BorrowedFd | undefined): string =>
    new TextDecoder().decode(bytes.subarray(0, read(fd ?? borrowFd(-1), bytes) ?? 0));
  expect(take(readEnd)).toBe("through the pipe");
  write(near, new TextEncoder().encode("there"));
  expect(take(end)).toBe("there");
  write(end ?? near, new TextEncoder().encode("back"));
  expect(take(near)).toBe("back");
  for (const fd of [near, writer]) fd.close();
});

test("a name is withdrawn with its connection, and what nobody took is closed", async () => {
  await using broker = new TestBroker();
  using watcher = broker.connect();
  const before = await broker.fdCountAtRest();
  const giver = broker.connect();
  const offer = giver.offer("gone");
  expect(refusal(() => watcher.offer("gone"))).toMatch(/^name-in-use: Cannot offer "gone": process \d+ /);
  const { reader, writer } = pipe();
  offer.publish([writer]);
  writer.close();
  giver.close();
  expect(read(reader, new Uint8Array(1))).toBe(0); // end of file: nobody holds the other end
  reader.close();
  await waitUntil(() => broker.fdCount() === before, "the broker to have closed everything");
  watcher.offer("gone").close();
});

const FD_RULES = `
[[deny]]
name = "only-small-ones"
action = "offer"
fd = "memfd"
minSizeBytes = 4097

[[deny]]
name = "no-ipv6"
action = "offer"
family = "inet6"

[[deny]]
name = "write-only-stays"
action = "take"
fd = "pipe"
access = "write"
`;

test("a rule speaks of size, family and access of what is offered, and of the one descriptor that has all of it", async () => {
  await using broker = new TestBroker(FD_RULES);
  using link = broker.connect();
  using offer = link.offer("judged");
  const publish = (...fds: readonly OwnedFd[]) => refusal(() => offer.publish(fds));
  using small = memfdWith("small");
  using large = memfdWith("x".repeat(4097));
  using file = open(join(broker.directory, "large"), constants.O_RDWR | constants.O_CREAT, 0o600);
  write(file, new Uint8Array(5000));
  using inet = socket(constants.AF_INET, constants.SOCK_DGRAM);
  using inet6 = socket(constants.AF_INET6, constants.SOCK_DGRAM);
  expect(publish(small, large)).toMatch(
    /user \d+ may not offer it as memfd \(rule "only-small-ones" at .*shmlink\.toml:2\)/,
  );
  expect(publish(inet, inet6)).toMatch(/may not offer it as udp \(rule "no-ipv6" at .*shmlink\.toml:8\)/);
  expect(offer.publish([small, file, inet])).toBe(1); // the memfd is small, and what is large is no memfd
});

test("a rule about what is taken is named to who may not have it, and its answer is not that to another descriptor", async () => {
  await using broker = new TestBroker(FD_RULES);
  using giver = broker.connect();
  using taker = broker.connect();
  using offer = giver.offer("ends");
  const { reader, writer } = pipe();
  offer.publish([writer], { keep: true });
  for (let turn = 0; turn < 2; turn++)
    expect(refusal(() => taker.take("ends"))).toMatch(
      /^denied: Cannot take "ends": user \d+ may not take it as pipe \(rule "write-only-stays" at .*shmlink\.toml:13\)/,
    );
  offer.publish([reader], { keep: true }); // of the same type, under the same name
  using delivery = taker.take("ends");
  expect(delivery.fds.map(inodeOf)).toEqual([inodeOf(reader)]);
  for (const fd of [reader, writer]) fd.close();
});

test("what is only for who waits, and who waits may not have, is refused and does not stay", async () => {
  await using broker = new TestBroker(FD_RULES);
  using giver = broker.connect();
  using taker = broker.connect({ wake: true });
  using offer = giver.offer("ends");
  const { reader, writer } = pipe();
  const inVain = taker.takeAsync("ends", { waitMs: -1 });
  taker.sync();
  expect(refusal(() => offer.publish([writer], { now: true }))).toBe(
    'unknown-name: Cannot pass on what is offered as "ends": none of those who have waited longest may have it',
  );
  await expect(inVain).rejects.toThrow("may not take it as pipe");
  writer.close();
  // there is no other end of it, not at the broker either
  expect(poll([{ fd: reader, events: constants.EPOLLIN }], 30_000)).toEqual([constants.EPOLLHUP]);
  const waiting = taker.takeAsync("ends", { waitMs: -1 });
  taker.sync();
  offer.publish([reader], { now: true });
  using delivery = await waiting;
  expect(delivery.fds.map(inodeOf)).toEqual([inodeOf(reader)]);
  giver.sync();
  expect(offer.taken.map(({ bundle }) => bundle)).toEqual([1]);
  reader.close();
});

test("only sealed memfds and files to read, and a decision about one is not kept for the next of its type", async () => {
  const head = 'uid = "owner"\naction = ["offer", "take"]\n';
  await using broker = new TestBroker(
    `[[allow]]\nname = "owner-fds"\n${head}fd = "memfd"\nseals = ["write", "grow"]\nmaxSizeBytes = 4\n\n` +
      `[[allow]]\nname = "to-read"\n${head}fd = "file"\naccess = "read"\n`,
  );
  using link = broker.connect();
  using offer = link.offer("sealed");
  const sealed = (content: string, seals: number): OwnedFd => {
    const fd = memfdWith(content);
    addSeals(fd, seals);
    return fd;
  };
  const { F_SEAL_WRITE, F_SEAL_GROW, O_RDONLY, O_RDWR, O_CREAT } = constants;
  using good = sealed("good", F_SEAL_WRITE | F_SEAL_GROW);
  using large = sealed("large", F_SEAL_WRITE | F_SEAL_GROW);
  using growing = sealed("good", F_SEAL_WRITE);
  using reading = open("/etc/passwd", O_RDONLY);
  using writing = open(join(broker.directory, "file"), O_RDWR | O_CREAT, 0o600);
  let published = 0;
  for (const bad of [large, growing, writing]) {
    expect(offer.publish([good])).toBe(++published);
    expect(refusal(() => offer.publish([bad]))).toMatch(/no rule allows user \d+ to offer it as (memfd|file)/);
  }
  expect(refusal(() => offer.publish([good, reading]))).toContain("no rule allows"); // each rule is for one of them
  expect(offer.publish([reading])).toBe(++published);
  for (const fd of [good, good, good, reading]) {
    using delivery = link.take("sealed");
    expect(delivery.fds.map(inodeOf)).toEqual([inodeOf(fd)]);
  }
});

test("ls shows what is relayed, with what the broker makes of it", async () => {
  await using broker = new TestBroker();
  using link = broker.connect({ name: "giver" });
  using offer = link.offer("shown");
  using ring = memfdWith("abc");
  using nothing = open("/etc/passwd", constants.O_RDONLY);
  offer.publish([ring, nothing], { keep: true });
  const { stdout } = await broker.run(["ls", "--json"]);
  expect(JSON.parse(stdout).relayed).toEqual([
    {
      id: offer.id,
      name: "shown",
      owner: { uid: process.geteuid?.(), pid: process.pid, exe: process.execPath },
      program: "giver",
      kept: true,
      waiting: 1,
      published: 1,
      taken: 0,
      fds: [
        { type: "memfd", access: "read-write", sizeBytes: 3, seals: [] },
        { type: "file", access: "read", sizeBytes: fstat(nothing).sizeBytes },
      ],
      rule: "owner-fds",
      fdsRule: "owner-fds",
    },
  ]);
  const { stdout: table } = await broker.run(["ls"]);
  expect(table).toMatch(/Relayed descriptors\n.*\n.*shown .*memfd, file/);
});

test("the broker's own sockets are refused at every end, and so are what holds other descriptors and what only names a file", async () => {
  await using broker = new TestBroker();
  using link = broker.connect({ wake: true });
  using offer = link.offer("own");
  const refused = (fd: BorrowedFd, why: RegExp): void => expect(refusal(() => offer.publish([fd]))).toMatch(why);
  refused(link.fd, /^denied: .*it is a socket of the broker/);
  using raw = new RawPeer(broker.socketPath);
  refused(raw.fd, /it is a socket of the broker/);
  using epoll = epollCreate();
  refused(epoll, /it holds or makes other descriptors, of which nothing is known/);
  using path = open("/etc/passwd", constants.O_PATH);
  refused(path, /it names a file and is not open \(O_PATH\); open it for reading or writing/);
  using fine = memfdWith("fine");
  expect(refusal(() => offer.publish([fine, link.fd]))).toContain("socket of the broker"); // all or nothing
  expect(refusal(() => link.take("own"))).toContain("there is nothing to take");
  for (const why of [
    "it is a socket of the broker",
    "it holds or makes other descriptors",
    "it names a file and is not open",
  ])
    expect(broker.log).toContain(`Refused to offer a descriptor as "own": ${why}`);
});

test("a doorbell that the broker holds is refused at the broker's end of it", async () => {
  await using broker = new TestBroker();
  broker.connect().close();
  using raw = new RawPeer(broker.socketPath);
  const [near, far] = socketpair(constants.SOCK_STREAM);
  raw.send(message(1, 1, 2));
  raw.send(message(2, 0, 1, ...text("shmlink_manager_v1"), 1, 3));
  raw.send(message(3, 0, ...text("raw")), [far]);
  using link = broker.connect();
  using offer = link.offer("bell");
  await waitUntil(() => raw.next()?.sender === 3, "welcome");
  expect(refusal(() => offer.publish([far]))).toContain("socket of the broker");
  for (const fd of [near, far]) fd.close();
});

test("the 29th descriptor of a bundle ends the session, and nothing of it stays open", async () => {
  await using broker = new TestBroker();
  using watcher = broker.connect();
  const before = await broker.fdCountAtRest();
  using raw = new RawPeer(broker.socketPath);
  using fd = memfdWith("x");
  raw.greet();
  raw.send(message(3, 7, 4, ...text("much")));
  for (let index = 0; index < 29; index++) raw.send(message(4, 1), [fd]);
  expect(raw.nextError()).toMatchObject({ code: 2, message: "Too many descriptors in a bundle: 28 is the most" });
  await waitUntil(() => broker.fdCount() === before, "the broker to have closed them");
  expect(() => watcher.offer("x").publish(Array.from({ length: 29 }, () => fd))).toThrow(RangeError);
});

test("policy speaks of types: what no rule names is refused to offer, and to take, with the rule's place", async () => {
  const rules = `[[allow]]
name = "owner-fds"
uid = "owner"
action = ["offer", "take"]
fd = ["memfd", "pipe", "directory"]

[[deny]]
name = "no-pipes-out"
action = "take"
fd = "pipe"
`;
  await using broker = new TestBroker(rules);
  using link = broker.connect();
  using offer = link.offer("typed");
  using directory = open("/", constants.O_RDONLY);
  using file = open("/etc/passwd", constants.O_RDONLY);
  using memfd = memfdWith("m");
  const { reader, writer } = pipe();
  offer.publish([directory, memfd]);
  link.take("typed")[Symbol.dispose]();
  expect(refusal(() => offer.publish([memfd, file]))).toMatch(
    /no rule allows user \d+ to offer it as memfd, file \(rule "default"\)/,
  );
  offer.publish([reader]);
  expect(refusal(() => link.take("typed"))).toMatch(
    /may not take it as pipe \(rule "no-pipes-out" at .*shmlink\.toml:7\)/,
  );
  for (const fd of [reader, writer]) fd.close();
});

test("descriptors count: above the limit a bundle is refused, and room comes back when one is taken", async () => {
  await using broker = new TestBroker("[limits]\nmaxFdsPerUser = 3\n");
  using link = broker.connect();
  using offer = link.offer("counted");
  using fd = memfdWith("x");
  offer.publish([fd, fd]);
  expect(refusal(() => offer.publish([fd, fd]))).toMatch(
    /^quota: .*would have 4 descriptors, limits\.maxFdsPerUser is 3/,
  );
  offer.publish([fd]);
  expect(refusal(() => offer.publish([fd]))).toStartWith("quota: ");
  link.take("counted")[Symbol.dispose]();
  offer.publish([fd, fd]);
});

/** Asks the broker, and has it answer, until everything before is answered. */
function finish(broker: Broker, peer: RawPeer, id: number, onEvent: (event: RawEvent) => void): void {
  peer.send(message(1, 0, id));
  for (let tries = 0; ; tries++) {
    expect(tries).toBeLessThan(100_000);
    broker.turn(1);
    for (let event = soon(peer); event !== undefined; event = soon(peer)) {
      if (event.sender === id) return;
      onEvent(event);
    }
  }
}

function soon(peer: RawPeer): RawEvent | undefined {
  try {
    return peer.next(0);
  } catch {
    return undefined; // nothing has come
  }
}

/** Peers are gone: what they left is cleared within a few turns, and when the thread that closes it has done so. */
function expectEmpty(broker: Broker): void {
  for (let turn = 0; turn < 1000 && !broker.isEmpty; turn++) broker.turn(10);
  expect(broker.isEmpty).toBe(true);
}

test("who takes and does not read is refused more when a few hundred descriptors wait for him", () => {
  using directory = makeRuntimeDir();
  const path = join(directory.path, "b");
  const limits = { ...builtInConfig.limits, maxMessagesPerSecond: 1 << 24 };
  const broker = new Broker({
    listeners: [listenOn(path)],
    config: { ...builtInConfig, limits },
    env: {},
    logger: SILENT,
  });
  {
    using giver = new RawPeer(path);
    using taker = new RawPeer(path);
    for (const peer of [giver, taker]) peer.greet();
    giver.send(message(3, 7, 4, ...text("many")));
    using fd = memfdWith("x");
    for (let count = 0; count < 28; count++) giver.send(message(4, 1), [fd]);
    giver.send(message(4, 2, SHMLINK_OFFER_V1_PUBLISH_FLAGS.keep));
    finish(broker, giver, 5, () => undefined);
    const ASKED = 1000;
    for (let id = 4; id < 4 + ASKED; id++) {
      taker.send(message(3, 8, id, ...text("many"), 0));
      broker.turn(1);
    }
    let refusals = 0;
    let came = 0;
    finish(broker, taker, 4 + ASKED, ({ body }) => {
      if (/about \d+ descriptors wait for this client to read them/.test(new TextDecoder().decode(body))) refusals += 1;
      came += taker.received.length;
      for (const received of taker.received.splice(0)) received.close();
    });
    expect(refusals).toBeGreaterThan(0);
    expect(came).toBe((ASKED - refusals) * 28);
  }
  expectEmpty(broker);
  broker[Symbol.dispose]();
}, 60_000);

// What is told to who offers may end him, in the middle of handing out what he offered.
test("who offers and does not read ends by himself: neither the broker nor who takes from him", () => {
  using directory = makeRuntimeDir();
  const path = join(directory.path, "b");
  const limits = { ...builtInConfig.limits, maxQueuedBytes: 1 << 16, maxMessagesPerSecond: 1 << 24 };
  const broker = new Broker({
    listeners: [listenOn(path)],
    config: { ...builtInConfig, limits },
    env: {},
    logger: SILENT,
  });
  using deaf = new RawPeer(path);
  using taker = new RawPeer(path);
  for (const peer of [deaf, taker]) peer.greet();
  deaf.send(message(3, 7, 4, ...text("flood")));
  for (let turn = 0; turn < 20; turn++) broker.turn(5);
  expect(broker.sessionCount).toBe(2);
  using fd = memfdWith("x");
  const bundle = new Uint8Array([...message(4, 1), ...message(4, 2, 0)]);
  const EACH = 50;
  for (let round = 0, id = 4; broker.sessionCount === 2; round++) {
    expect(round).toBeLessThan(1000);
    for (let count = 0; count < EACH && broker.sessionCount === 2; count++) {
      sendmsg(deaf.fd, bundle, [fd]);
      broker.turn(5);
    }
    for (let count = 0; count < EACH && broker.sessionCount === 2; count++, id++) {
      taker.send(message(3, 8, id, ...text("flood"), 0));
      broker.turn(5);
      while ((poll([{ fd: taker.fd, events: constants.EPOLLIN }], 0)[0] ?? 0) !== 0) taker.next(10);
      for (const received of taker.received.splice(0)) received.close();
    }
  }
  taker.send(message(3, 8, 100_000, ...text("nobody"), 0));
  for (let turn = 0; turn < 20; turn++) broker.turn(1);
  expect(broker.sessionCount).toBe(1); // he is there, and is answered
  while ((poll([{ fd: taker.fd, events: constants.EPOLLIN }], 0)[0] ?? 0) !== 0) taker.next(10);
  for (const received of taker.received.splice(0)) received.close();
  taker[Symbol.dispose]();
  expectEmpty(broker);
  broker[Symbol.dispose]();
});

/** Whatever others make wait for somebody who does not read, it is they who are refused: he keeps his session, his user his
 *  other ones, and the broker holds no more descriptors than it says. */
import { expect, test } from "bun:test";
import { addSeals, constants, kill, open, pipe } from "../../ffi/mod.ts";
import { RING_SEALS } from "../../lib/channel/seals.ts";
import { INTERFACES } from "../../lib/protocol/shmlink-v1.gen.ts";
import { TestBroker, waitUntil } from "../helpers/broker.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { message, type RawEvent, RawPeer, text } from "../helpers/raw-peer.ts";

expectNoFdLeaks();

const MANAGER = 3;
const [LISTEN, DIAL, OFFER, TAKE] = [1, 2, 7, 8];
const OBJECT = 16; // a service, an offer or a channel
const MINT = INTERFACES.shmlink_manager_v1.requests.findIndex(({ name }) => name === "mint");
const CONNECT = INTERFACES.shmlink_grant_v1.requests.findIndex(({ name }) => name === "connect");
const MINT_FAILED = INTERFACES.shmlink_grant_v1.events.findIndex(({ name }) => name === "failed");
const SYNC = 8;
const [MAP, PEER, FAILED] = [0, 1, 2]; // of a channel
const TAKEN = 4; // of an offer
const [KEEP, QUIET] = [1, 4]; // of publish
const QUOTA = 4;
/** Those that may wait for one connection, and some that come and go. */
const MOST_UNREAD_FDS = 256 + 32;

type Failure = { readonly code: number; readonly message: string };

function greeted(broker: TestBroker): RawPeer {
  const peer = new RawPeer(broker.socketPath);
  peer.greet();
  return peer;
}

/** Reads all that came before the answer. @throws Error when the session has ended */
function read(peer: RawPeer): RawEvent[] {
  const events: RawEvent[] = [];
  peer.send(message(1, 0, SYNC));
  for (let event = peer.next(); event?.sender !== SYNC; event = peer.next()) {
    if (event === undefined) throw new Error("The session ended");
    events.push(event);
  }
  return events;
}

function sync(peer: RawPeer): RawEvent[] {
  const events = read(peer);
  closeReceived(peer);
  return events;
}

/** The same of somebody who dials, or takes. @returns what became of that where it failed */
function failures(peer: RawPeer): Failure[] {
  const failed = sync(peer).filter(({ sender, opcode }) => sender >= OBJECT && opcode === FAILED);
  return failed.map(({ body }) => {
    const bytes = new Uint8Array(body.buffer, body.byteOffset + 8, body.getUint32(4, true) - 1);
    return { code: body.getUint32(0, true), message: new TextDecoder().decode(bytes) };
  });
}

function closeReceived(peer: RawPeer): void {
  for (const fd of peer.received.splice(0)) fd.close();
}

function listening(broker: TestBroker, name: string): RawPeer {
  const service = greeted(broker);
  service.send(message(MANAGER, LISTEN, OBJECT, ...text(name), 4096));
  sync(service);
  return service;
}

/** Has a bundle of 28 on offer as "kept". @param flags  of publish */
function keeping(broker: TestBroker, flags: number): RawPeer {
  const offerer = greeted(broker);
  using file = open(broker.configPath, constants.O_RDONLY);
  offerer.send(message(MANAGER, OFFER, OBJECT, ...text("kept")));
  for (let count = 0; count < 28; count++) offerer.send(message(OBJECT, 1), [file]);
  offerer.send(message(OBJECT, 2, flags));
  sync(offerer);
  return offerer;
}

const dial = (object: number, name: string): Uint8Array => message(MANAGER, DIAL, object, ...text(name), 4096);
const letGo = (object: number): Uint8Array => message(object, 0);

test("a service that does not read keeps its session however often it is dialled, and who dials is refused", async () => {
  await using broker = new TestBroker();
  using bystander = broker.connect();
  using service = listening(broker, "db");
  using dialler = greeted(broker);
  sync(dialler);
  const before = await broker.fdCountAtRest();
  const dialOnce = (): Failure | undefined => {
    dialler.send(dial(OBJECT, "db"));
    dialler.send(letGo(OBJECT));
    return failures(dialler)[0];
  };
  let refusal: Failure | undefined;
  for (let tries = 0; refusal === undefined && tries < 20_000; tries++) refusal = dialOnce();
  expect(refusal?.message).toMatch(
    new RegExp(`^Cannot dial "db": process ${process.pid}, which listens, does not read, and about \\d+ descriptors`),
  );
  for (let count = 0; count < 500; count++) expect(dialOnce()?.code).toBe(QUOTA);
  expect(broker.fdCount()).toBeLessThan(before + MOST_UNREAD_FDS);
  const { code, stderr } = await broker.run(["dial", "db"]);
  expect([code === 0, stderr]).toEqual([false, expect.stringMatching(/does not read.*try again/)]);
  expect(bystander.list("db").map(({ kind }) => kind)).toEqual(["service"]);
  sync(service);
  expect(dialOnce()).toBeUndefined();
  expect(broker.log).not.toContain("Session ended");
});

for (const limit of ["maxQueuedBytes = 65536", "maxQueuedBytesPerUser = 131072"]) {
  test(`who keeps something on offer and does not read is not ended by those who take it: ${limit}`, async () => {
    await using broker = new TestBroker(`[limits]\n${limit}\n`);
    using bystander = broker.connect();
    using stack = new DisposableStack();
    const { reader, writer } = pipe();
    for (const end of [reader, writer]) stack.use(end);
    using offerer = greeted(broker);
    offerer.send(message(MANAGER, OFFER, OBJECT, ...text("kept")));
    offerer.send(message(OBJECT, 1), [reader]);
    offerer.send(message(OBJECT, 2, 1)); // keep
    sync(offerer);
    using taker = greeted(broker);
    const takes = Array.from({ length: 20 }, () => [
      ...message(MANAGER, TAKE, OBJECT, ...text("kept"), 0),
      ...letGo(OBJECT),
    ]);
    const takeSome = (): void => {
      taker.send(new Uint8Array(takes.flat()));
      expect(failures(taker)).toEqual([]);
    };
    for (let count = 0; count < 800; count++) takeSome();
    expect(bystander.list("kept").map(({ kind }) => kind)).toEqual(["relayed"]);
    sync(offerer);
    takeSome();
    expect(sync(offerer).filter(({ sender, opcode }) => sender === OBJECT && opcode === TAKEN).length).toBe(20);
    expect(broker.log).not.toContain("Session ended");
  }, 60_000);
}

test("copies of what is kept on offer that go with their taker are nothing that who offers it has to answer for", async () => {
  await using broker = new TestBroker("[limits]\nmaxFdsPerUser = 64\n");
  using bystander = broker.connect();
  using offerer = keeping(broker, KEEP | QUIET);
  using taker = greeted(broker);
  for (let turn = 0; turn < 400; turn++) {
    taker.send(message(MANAGER, TAKE, OBJECT, ...text("kept"), 0));
    taker.send(letGo(OBJECT));
    taker.send(message(MANAGER, OFFER, OBJECT + 1, ...text(`turn-${turn}`)));
    await waitUntil(() => bystander.list(`turn-${turn}`).length === 1, "the broker to have heard it");
    taker.send(letGo(OBJECT + 1));
  }
  kill(broker.pid, constants.SIGSTOP);
  taker.fd.close();
  offerer.send(message(1, 0, SYNC + 1));
  kill(broker.pid, constants.SIGCONT);
  sync(offerer);
  expect(broker.log).not.toContain("Session ended");
}, 60_000);

test("who takes much at once, and reads it, is refused nothing", async () => {
  await using broker = new TestBroker();
  using _bystander = broker.connect();
  using _offerer = keeping(broker, KEEP);
  using taker = greeted(broker);
  const takes = Array.from({ length: 12 }, (_, index) => [
    ...message(MANAGER, TAKE, OBJECT + index, ...text("kept"), 0),
  ]);
  taker.send(new Uint8Array(takes.flat()));
  expect(failures(taker)).toEqual([]);
});

test("what is sent to a taker who reads nothing is bounded, for the broker may have no more than so many in flight", async () => {
  await using broker = new TestBroker();
  using bystander = broker.connect();
  using _offerer = keeping(broker, KEEP | QUIET);
  using taker = greeted(broker);
  for (let turn = 0; turn < 40; turn++) {
    taker.send(message(MANAGER, TAKE, OBJECT + 2 * turn, ...text("kept"), 0));
    taker.send(message(MANAGER, LISTEN, OBJECT + 2 * turn + 1, ...text(`turn-${turn}`), 4096));
    await waitUntil(() => bystander.list(`turn-${turn}`).length === 1, "the broker to have heard it");
  }
  const heard = sync(taker).filter(({ sender }) => sender >= OBJECT && sender % 2 === 0);
  expect(heard.filter(({ opcode }) => opcode === 0).length).toBe(448);
  expect(heard.filter(({ opcode }) => opcode === FAILED).length).toBe(40 - 448 / 28);
  taker.send(message(MANAGER, TAKE, OBJECT + 1000, ...text("kept"), 0));
  expect(failures(taker)).toEqual([]); // he has read them
}, 60_000);

test("who mints and reads nothing of the answers makes the broker hold no more than a few of them", async () => {
  await using broker = new TestBroker();
  using bystander = broker.connect();
  using minter = greeted(broker);
  const untilHeard = (name: string, id: number): Promise<void> => {
    minter.send(message(MANAGER, LISTEN, id, ...text(name), 4096));
    return waitUntil(() => bystander.list(name).length === 1, "the broker to have heard all of it");
  };
  const syncs = new Uint8Array(Array.from({ length: 1000 }, () => [...message(1, 0, SYNC)]).flat());
  for (let turn = 0; turn < 20; turn++) {
    minter.send(syncs); // answers fill the socket, so that what comes then is the broker's to keep
    await untilHeard(`syncs-${turn}`, OBJECT + turn);
  }
  const ids = Array.from({ length: 400 }, (_, index) => OBJECT + 20 + index);
  minter.send(new Uint8Array(ids.flatMap((id) => [...message(MANAGER, MINT, id), ...message(id, CONNECT)])));
  await untilHeard("mints", OBJECT + 420);
  const answers: RawEvent[] = [];
  while (answers.length < ids.length) answers.push(...sync(minter).filter(({ sender }) => ids.includes(sender)));
  const refused = answers.filter(({ opcode }) => opcode === MINT_FAILED);
  expect(refused.length).toBeGreaterThan(ids.length - MOST_UNREAD_FDS);
  expect(refused.every(({ body }) => body.getUint32(0, true) === QUOTA)).toBe(true);
});

test("who dials and reads nothing of the answers makes the broker hold no more than a few of them", async () => {
  await using broker = new TestBroker();
  using bystander = broker.connect();
  using service = listening(broker, "db");
  using dialler = greeted(broker);
  const before = await broker.fdCountAtRest();
  const dials = Array.from({ length: 8 }, () => [...dial(OBJECT, "db"), ...letGo(OBJECT)]);
  for (let turn = 0; turn < 120; turn++) {
    dialler.send(new Uint8Array(dials.flat()));
    dialler.send(message(MANAGER, LISTEN, OBJECT + 1 + turn, ...text(`turn-${turn}`), 4096));
    await waitUntil(() => bystander.list(`turn-${turn}`).length === 1, "the broker to have heard it");
    sync(service);
  }
  expect(broker.fdCount()).toBeLessThan(before + MOST_UNREAD_FDS);
  expect(failures(dialler).map(({ code }) => code)).toContain(QUOTA);
});

test("rings that are sealed all at once are not kept for a service that has stopped reading", async () => {
  const COUNT = 700;
  await using broker = new TestBroker("[limits]\nmaxFdsPerUser = 4096\n");
  using bystander = broker.connect();
  using service = listening(broker, "db");
  using dialler = greeted(broker);
  sync(dialler);
  const before = await broker.fdCountAtRest();
  for (let index = 0; index < COUNT; index++) {
    dialler.send(dial(OBJECT + index, "db"));
    sealOnly(dialler);
    sync(service);
  }
  const given: Failure[] = [];
  for (let index = 0; index < COUNT; index++) {
    dialler.send(message(OBJECT + index, 1)); // mapped
    given.push(...failures(dialler));
  }
  expect(given.length).toBeGreaterThan(0);
  const why = 'Cannot finish the channel to "db": the other side does not read, and too many descriptors wait for it';
  for (const failure of given) expect(failure).toEqual({ code: QUOTA, message: why });
  expect(bystander.list("db").map(({ kind }) => kind)).toContain("service");
  dialler.send(new Uint8Array(Array.from({ length: COUNT }, (_, index) => [...letGo(OBJECT + index)]).flat()));
  sync(dialler);
  expect(broker.fdCount()).toBeLessThan(before + MOST_UNREAD_FDS);
  sync(service);
}, 60_000);

test("channels of which a busy service has not heard yet are all finished, however many are dialled at once", async () => {
  await using broker = new TestBroker("[limits]\nmaxFdsPerUser = 4096\n");
  using _bystander = broker.connect();
  using service = listening(broker, "db");
  using dialler = greeted(broker);
  sync(dialler);
  const dials = Array.from({ length: 300 }, (_, index) => [...dial(OBJECT + 1 + index, "db")]);
  dialler.send(new Uint8Array(dials.flat()));
  const near = sealAnnounced(dialler, ofChannels(read(dialler)));
  expect(near.length).toBe(448 / 2 / 2);
  dialler.send(mapped(near));
  expect(ofChannels(sync(dialler))).toEqual([]);
  const heard = ofChannels(read(service));
  const far = sealAnnounced(service, heard);
  expect([far.length, heard.filter(({ opcode }) => opcode === PEER).length]).toEqual([near.length, near.length]);
  service.send(mapped(far));
  expect(ofChannels(sync(service))).toEqual([]);
  expect(ofChannels(sync(dialler)).map(({ opcode }) => opcode)).toEqual(near.map(() => PEER));
});

const ofChannels = (events: RawEvent[]): RawEvent[] => events.filter(({ sender }) => sender > OBJECT);

function mapped(channels: number[]): Uint8Array {
  return new Uint8Array(channels.flatMap((channel) => [...message(channel, 1)]));
}

/** Seals the rings that came with events. @returns their channels */
function sealAnnounced(peer: RawPeer, events: RawEvent[]): number[] {
  const announced = events.filter(({ opcode }) => opcode === MAP).map(({ sender }) => sender);
  const isRing = (_: unknown, index: number): boolean => index % 2 === 0 && index < 2 * announced.length;
  for (const ring of peer.received.filter(isRing)) addSeals(ring, RING_SEALS);
  closeReceived(peer);
  return announced;
}

/** Reads what the channel is made of, and seals its ring. */
function sealOnly(dialler: RawPeer): void {
  while (dialler.received.length < 2) dialler.next();
  const [ring] = dialler.received;
  if (ring !== undefined) addSeals(ring, RING_SEALS);
  closeReceived(dialler);
}

/** What is begun and not finished is given up in time, with a word about it; what is finished, or only idle, is left alone. */
import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { addSeals, constants, ftruncate, kill, memfdCreate, open, pipe, poll } from "../../ffi/mod.ts";
import { RING_SEALS } from "../../lib/channel/seals.ts";
import { INTERFACES } from "../../lib/protocol/shmlink-v1.gen.ts";
import { DATA_OFFSET } from "../../lib/ring/layout.ts";
import { TestBroker, waitUntil, whileStopped } from "../helpers/broker.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { message, type RawEvent, RawPeer, text } from "../helpers/raw-peer.ts";

expectNoFdLeaks();

/** Nothing is given up, until hurry(). */
const PATIENT = "[broker]\nsetUpMs = 0\n";
const MANAGER = 3;
const FAILED = 2; // of shmlink_channel_v1
const REGISTRY = 2;
/** The manager in its newest version, and what it has that is looked at here. */
const NEW_MANAGER = 4;
const { requests, events } = INTERFACES.shmlink_manager_v1;
const opcode = (request: string): number => requests.findIndex(({ name }) => name === request);
const SPARE_DROPPED = events.findIndex(({ name }) => name === "spare_dropped");

/** What is begun from now on has so much time. Who is to stay has come before: we may be held up as well. */
async function hurry(broker: TestBroker, config = "[broker]\nsetUpMs = 200\n"): Promise<void> {
  const timesRead = (): number => broker.log.split("Configuration read again").length;
  const before = timesRead();
  writeFileSync(broker.configPath, config);
  kill(broker.pid, constants.SIGHUP);
  await waitUntil(() => timesRead() > before, "the broker to read its configuration again");
}

/** Somebody who has said all this before the broker hears any of it. */
function joining(broker: TestBroker, say: (peer: RawPeer) => void = (peer) => peer.greet()): RawPeer {
  return whileStopped(broker, () => {
    const peer = new RawPeer(broker.socketPath);
    say(peer);
    return peer;
  });
}

function nextOf(peer: RawPeer, sender: number): RawEvent {
  for (let event = peer.next(); event !== undefined; event = peer.next()) if (event.sender === sender) return event;
  throw new Error("The connection ended");
}

function nextFailure(peer: RawPeer, channel: number): string {
  let event = nextOf(peer, channel);
  while (event.opcode !== FAILED) event = nextOf(peer, channel);
  const { body } = event;
  return new TextDecoder().decode(new Uint8Array(body.buffer, body.byteOffset + 8, body.getUint32(4, true) - 1));
}

/** Each is begun and left. */
const HALVES: Readonly<Record<string, readonly [what: string, begin: (peer: RawPeer) => void]>> = {
  "says nothing at all": ["hello", () => undefined],
  "asks for things and never says hello": ["hello", (peer) => peer.send(message(1, 1, 2))],
  "sends half a message": [
    "a message",
    (peer) => {
      peer.greet();
      peer.send(message(1, 0, 9).subarray(0, 6));
    },
  ],
  "sends a descriptor without its message": [
    "a message",
    (peer) => {
      peer.greet();
      using fd = open("/dev/null", constants.O_RDONLY);
      peer.send(message(1, 0, 9), [fd]);
    },
  ],
};

for (const [name, [what, begin]] of Object.entries(HALVES)) {
  test(`who ${name} is shown out in time, and others stay`, async () => {
    await using broker = new TestBroker(PATIENT);
    using other = broker.connect();
    await hurry(broker);
    using peer = joining(broker, begin);
    expect(peer.nextError()?.message).toBe(`Cannot wait any longer for ${what}: broker.setUpMs is 200`);
    other.list();
  });
}

test("who is unfinished when the configuration says that there is no limit any more is left alone", async () => {
  await using broker = new TestBroker(PATIENT);
  using _other = broker.connect();
  await hurry(broker, "[broker]\nsetUpMs = 2400\n");
  using peer = new RawPeer(broker.socketPath);
  peer.send(message(1, 0, 8));
  expect(nextOf(peer, 8).opcode).toBe(0); // he is in
  await hurry(broker, PATIENT);
  await new Promise((resolve) => setTimeout(resolve, 3000)); // more than the limit was, and a look more
  peer.greet();
  peer.send(message(1, 0, 9));
  expect(nextOf(peer, 9).opcode).toBe(0);
}, 20_000);

test("a message that comes byte by byte, with nothing else between, has no more time than any other", async () => {
  await using broker = new TestBroker(PATIENT);
  using _other = broker.connect();
  await hurry(broker);
  using peer = joining(broker);
  const long = message(MANAGER, 6, ...text("x".repeat(2000)));
  let sent = 0;
  await waitUntil(() => {
    try {
      peer.send(long.subarray(sent, ++sent));
      return false;
    } catch {
      return true; // shown out
    }
  }, "the broker to lose patience");
  expect(peer.nextError()?.message).toMatch(/^Cannot wait any longer for a message/);
});

test("a channel whose service never maps its ring is given up: both hear it, and its descriptors come back", async () => {
  const limits = "[limits]\nmaxFdsPerUser = 8\n";
  await using broker = new TestBroker(PATIENT + limits);
  using other = broker.connect();
  await hurry(broker, `[broker]\nsetUpMs = 200\n${limits}`);
  using service = joining(broker);
  using dialler = joining(broker);
  service.send(message(MANAGER, 1, 5, ...text("deaf"), 4096));
  await waitUntil(() => other.list("deaf").length === 1, "the name to be offered");
  for (let turn = 0; turn < 6; turn++) {
    // more than there is room for at a time
    dialler.send(message(MANAGER, 2, 6 + turn, ...text("deaf"), 4096));
    expect(nextOf(dialler, 6 + turn).opcode).toBe(0); // map: there was room
    expect(nextFailure(dialler, 6 + turn)).toMatch(
      /^Cannot finish the channel to "deaf": a ring was not mapped in time/,
    );
    expect(nextFailure(service, 0xff000000 + turn)).toMatch(/a ring was not mapped in time, broker\.setUpMs is 200/);
  }
  expect(broker.log).toMatch(/Cannot finish the channel to "deaf": a ring was not mapped in time/);
  expect(other.list("deaf").length).toBe(1); // the service stays
});

for (const [who, spareOf, deaf] of [
  ["service", "dialler", "service"],
  ["dialler", "service", "dialler"],
] as const) {
  test(`a channel whose ${who} never maps its ring takes the spare ring of the other side with it, who is told`, async () => {
    await using broker = new TestBroker(PATIENT);
    using other = broker.connect();
    await hurry(broker);
    const greet = (peer: RawPeer): void => {
      peer.greet();
      peer.send(message(REGISTRY, 0, 1, ...text("shmlink_manager_v1"), 2, NEW_MANAGER));
    };
    using service = joining(broker, greet);
    using dialler = joining(broker, greet);
    const peers = { service, dialler };
    using ring = memfdCreate("spare");
    ftruncate(ring, DATA_OFFSET + 4096);
    addSeals(ring, RING_SEALS);
    peers[spareOf].send(message(NEW_MANAGER, opcode("spare"), 77), [ring]);
    service.send(message(NEW_MANAGER, opcode("listen"), 5, ...text("half"), 4096));
    await waitUntil(() => other.list("half").length === 1, "the name to be offered");
    dialler.send(message(NEW_MANAGER, opcode("dial"), 6, ...text("half"), 4096));
    expect(nextFailure(peers[deaf], deaf === "dialler" ? 6 : 0xff000000)).toMatch(/a ring was not mapped in time/);
    let event = nextOf(peers[spareOf], NEW_MANAGER);
    while (event.opcode !== SPARE_DROPPED) event = nextOf(peers[spareOf], NEW_MANAGER);
    expect(event.body.getUint32(0, true)).toBe(77);
  });
}

test("descriptors that are added to an offer and not published are given up, and publish says so", async () => {
  await using broker = new TestBroker(PATIENT);
  using _other = broker.connect();
  await hurry(broker);
  const { reader, writer } = pipe();
  using _reader = reader;
  using peer = joining(broker, (peer) => {
    peer.greet();
    peer.send(message(MANAGER, 7, 5, ...text("slow")));
    peer.send(message(5, 1), [writer]);
    writer.close();
    expect(poll([{ fd: reader, events: 0 }], 0)[0]).toBe(0); // it is on its way
  });
  await waitUntil(() => poll([{ fd: reader, events: 0 }], 0)[0] !== 0, "the broker to have closed it");
  peer.send(message(5, 2, 0));
  let event = nextOf(peer, 5);
  while (event.opcode !== 3) event = nextOf(peer, 5); // refused
  const said = new TextDecoder().decode(new Uint8Array(event.body.buffer, event.body.byteOffset + 8));
  expect(said).toMatch(/^Cannot offer "slow": the bundle was not published in time, broker\.setUpMs is 200/);
});

test("who is only idle stays, whole channels too, while somebody else is shown out", async () => {
  await using broker = new TestBroker(PATIENT);
  using link = broker.connect({ wake: true });
  using service = link.listen("x");
  const [near, far] = await Promise.all([link.dialAsync("x"), service.acceptAsync()]);
  using idle = new RawPeer(broker.socketPath);
  idle.greet();
  idle.send(message(1, 0, 8));
  expect(nextOf(idle, 8).opcode).toBe(0); // he is in
  await hurry(broker);
  using late = new RawPeer(broker.socketPath);
  expect(late.nextError()?.message).toMatch(/for hello/); // a while has gone by
  idle.send(message(1, 0, 9));
  expect(nextOf(idle, 9).opcode).toBe(0);
  near.send(new Uint8Array(1));
  expect((await far?.receiveAsync())?.data).toEqual(new Uint8Array(1));
  expect(link.list("x").length).toBeGreaterThan(0);
  for (const channel of [near, far]) channel?.close();
});

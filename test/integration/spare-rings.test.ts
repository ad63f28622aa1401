/** Rings that clients make ahead: channels are whole in one turn, and who cheats with one hurts only his own channels. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { addSeals, ftruncate, getSeals, memfdCreate, type OwnedFd, readAt, write } from "../../ffi/mod.ts";
import type { Channel } from "../../lib/channel/channel.ts";
import { RING_SEALS } from "../../lib/channel/seals.ts";
import type { BrokerLink, DialOptions } from "../../lib/client/broker-link.ts";
import type { Service } from "../../lib/mod.ts";
import { DATA_OFFSET, ringFileBytes } from "../../lib/ring/layout.ts";
import { TestBroker, waitUntil } from "../helpers/broker.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { message, type RawEvent, RawPeer, text } from "../helpers/raw-peer.ts";
import { endBroker, Staying } from "../helpers/staying.ts";

expectNoFdLeaks();

const BYTES: Uint8Array = new TextEncoder().encode("hello");

async function connect(
  link: BrokerLink,
  service: Service,
  options: DialOptions = {},
): Promise<readonly [Channel, Channel]> {
  const [near, far] = await Promise.all([link.dialAsync(service.name, options), service.acceptAsync()]);
  if (far === undefined) throw new Error("Nothing was accepted");
  return [near, far];
}

async function exchange(near: Channel, far: Channel): Promise<void> {
  near.send(BYTES);
  expect((await far.receiveAsync())?.data).toEqual(new Uint8Array(BYTES));
  far.send(BYTES);
  expect((await near.receiveAsync())?.data).toEqual(new Uint8Array(BYTES));
}

/** Writable mappings of rings in this process: those that the broker made, and those that were made ahead. */
function ownRings(): { made: number; spare: number } {
  const lines = readFileSync("/proc/self/maps", "utf8")
    .split("\n")
    .filter((line) => / .w.. .*memfd:shmlink:/.test(line));
  return {
    made: lines.filter((line) => /shmlink:\d/.test(line)).length,
    spare: lines.filter((line) => line.includes("shmlink:spare")).length,
  };
}

/** How many of those made ahead have this capacity. */
function sparesOf(capacity: number): number {
  const sizes = [...readFileSync("/proc/self/maps", "utf8").matchAll(/^(\w+)-(\w+) .w.. .*memfd:shmlink:spare/gm)];
  return sizes.filter(([, from, to]) => Number(`0x${to}`) - Number(`0x${from}`) === DATA_OFFSET + capacity).length;
}

const REGISTRY = 2;
const MANAGER = 4;

/** A client that speaks for itself, with the manager in its newest version. */
function raw(broker: TestBroker): RawPeer {
  const peer = new RawPeer(broker.socketPath);
  peer.greet();
  peer.send(message(REGISTRY, 0, 1, ...text("shmlink_manager_v1"), 2, MANAGER));
  return peer;
}

test("from the second channel on both sides have their rings ready; what is not used goes with the connection", async () => {
  await using broker = new TestBroker();
  const link = broker.connect({ wake: true });
  const server = broker.connect({ wake: true });
  const service = server.listen("x", { capacity: 8192 });
  const first = await connect(link, service);
  await exchange(...first);
  expect(ownRings()).toEqual({ made: 2, spare: 0 });
  const waiting = service.acceptAsync(); // before it waits it gets ready
  server.sync();
  expect(ownRings()).toEqual({ made: 2, spare: 2 });
  const near = await link.dialAsync("x");
  const far = await waiting;
  if (far === undefined) throw new Error("Nothing was accepted");
  await exchange(near, far);
  expect(ownRings()).toEqual({ made: 2, spare: 3 }); // one of them still waits for the next who dials
  const entry = link.list(String(near.channelId))[0];
  expect(entry?.details).toMatchObject({
    state: "open",
    seals: ["shrink", "grow", "future-write", "seal"],
    capacity: { toService: 1 << 20, toDialler: 8192 },
    toService: { messages: 1 },
    toDialler: { messages: 1 },
  });
  for (const channel of [...first, near, far]) channel.close();
  service.close();
  link.close();
  server.close();
  expect(ownRings()).toEqual({ made: 0, spare: 0 });
});

test("who opens one channel after the other has the next ring ready when one ends; who opens one has none", async () => {
  await using broker = new TestBroker();
  const link = broker.connect({ wake: true });
  const server = broker.connect({ wake: true });
  const service = server.listen("x", { capacity: 8192 });
  const open = async (): Promise<void> => {
    for (const channel of await connect(link, service, { capacity: 4096 })) channel.close();
  };
  await open();
  expect(sparesOf(4096)).toBe(0);
  await open();
  expect(sparesOf(4096)).toBe(1); // those of the service have 8192
  const [near, far] = await connect(link, service, { capacity: 4096 });
  await exchange(near, far);
  for (const channel of [near, far]) channel.close();
  link.close();
  expect(sparesOf(4096)).toBe(0);
  server.close();
});

/** Rings that another process has mapped to write to, and that it made ahead. */
function spareRingsOf(pid: number): number {
  return readFileSync(`/proc/${pid}/maps`, "utf8").match(/ .w.. .*memfd:shmlink:spare/g)?.length ?? 0;
}

test("a service has rings ready at the next broker, too, before anybody has dialled there", async () => {
  await using broker = new TestBroker();
  const link = broker.connect({ wake: true });
  const back = Promise.withResolvers<void>();
  const server = broker.connect({ wake: true, onBroker: ({ kind }) => void (kind === "back" && back.resolve()) });
  const service = server.listen("x", { capacity: 8192 });
  for (const channel of await connect(link, service)) channel.close();
  const first = service.acceptAsync();
  server.sync();
  link.close();
  expect(ownRings().spare).toBe(2);
  await endBroker(broker, "SIGKILL");
  await back.promise;
  // Those of before went with their broker.
  await waitUntil(() => ownRings().spare === 2, "new rings at the next one");
  using again = broker.connect({ wake: true });
  const near = await again.dialAsync("x");
  const far = await first;
  if (far === undefined) throw new Error("Nothing was accepted");
  await exchange(near, far);
  expect(ownRings()).toEqual({ made: 1, spare: 2 }); // the dialler had none
  for (const channel of [near, far]) channel.close();
  service.close();
  server.close();
}, 60_000);

test("listen --keep has rings ready for who dials next", async () => {
  await using broker = new TestBroker();
  await using listener = new Staying(broker, "listen", "--keep", "--message", "lines");
  listener.child.stdin?.end();
  using link = broker.connect({ wake: true });
  const pid = listener.child.pid ?? 0;
  await waitUntil(() => link.list("lines").length === 1, "the name");
  expect(spareRingsOf(pid)).toBe(0); // nobody knows of what size they would have to be
  for (const [index, text] of ["one\n", "two\n"].entries()) {
    using channel = await link.dialAsync("lines");
    await channel.sendAsync(new TextEncoder().encode(text.trim()));
    channel.close();
    await waitUntil(() => listener.stdout.endsWith(text), "the line");
    await waitUntil(() => spareRingsOf(pid) === 2, `rings for who dials after the ${index + 1}.`);
  }
});

test("many channels of changing sizes and directions, some with a spare ring of the size and some without", async () => {
  await using broker = new TestBroker();
  using link = broker.connect({ wake: true });
  using server = broker.connect({ wake: true });
  using service = server.listen("x", { capacity: 4096 });
  for (let round = 0; round < 40; round++) {
    const direction = round % 5 === 3 ? "send" : round % 5 === 4 ? "receive" : "both";
    const [near, far] = await connect(link, service, { capacity: 4096 << (round % 3), direction });
    using _n = near;
    using _f = far;
    expect(near.direction).toBe(direction);
    if (direction === "both") await exchange(near, far);
    const [from, to] = direction === "receive" ? [far, near] : [near, far];
    from.send(BYTES);
    expect((await to.receiveAsync())?.data).toEqual(new Uint8Array(BYTES));
  }
});

test("a dialler that is refused keeps its spare ring for the next time", async () => {
  await using broker = new TestBroker();
  using link = broker.connect({ wake: true });
  for (let time = 0; time < 20; time++) expect(() => link.dial("nobody", { capacity: 4096 })).toThrow("nobody listens");
  expect(ownRings().spare).toBe(1);
  using service = link.listen("somebody", { capacity: 4096 });
  for (const channel of await connect(link, service, { capacity: 4096 })) channel.close();
});

test("a dial that is refused for quota costs neither side its spare rings", async () => {
  await using broker = new TestBroker("[limits]\nmaxChannelsPerUser = 3\n");
  using link = broker.connect({ wake: true });
  using server = broker.connect({ wake: true });
  using service = server.listen("x", { capacity: 4096 });
  const first = await connect(link, service, { capacity: 4096 });
  const waiting = service.acceptAsync();
  server.sync();
  for (let time = 0; time < 5; time++) {
    expect(() => link.dial("x", { capacity: 4096 })).toThrow("maxChannelsPerUser");
    server.sync();
    expect(ownRings()).toEqual({ made: 1, spare: 4 }); // of the channel, one and one; three are ready
  }
  for (const channel of first) channel.close();
  link.sync();
  server.sync();
  const near = await link.dialAsync("x", { capacity: 4096 });
  const far = await waiting;
  expect(ownRings()).toEqual({ made: 0, spare: 3 }); // two of them are the channel's
  near.close();
  far?.close();
});

test("rings that are only kept ready make room for a channel that needs it", async () => {
  const ring = DATA_OFFSET + 4096;
  await using broker = new TestBroker(`[limits]\nmaxSharedBytesPerUser = ${6 * ring}\n`);
  using link = broker.connect({ wake: true });
  using server = broker.connect({ wake: true });
  using service = server.listen("x", { capacity: 4096 });
  for (const channel of await connect(link, service, { capacity: 4096 })) channel.close();
  const waiting = service.acceptAsync(1); // two rings
  server.sync();
  expect(() => link.dial("nobody", { capacity: 4096 })).toThrow("nobody listens"); // and one
  await waiting;
  link.sync();
  expect(ownRings().spare).toBeGreaterThanOrEqual(3);
  using other = broker.connect({ wake: true });
  using second = other.listen("y", { capacity: 4096 });
  using third = broker.connect({ wake: true });
  const channels = [await connect(third, second, { capacity: 8192 }), await connect(third, second, { capacity: 8192 })];
  for (const [near, far] of channels) await exchange(near, far);
  for (const pair of channels) for (const channel of pair) channel.close();
});

test("who ends while a channel is on its way to him does not keep the ring that was ready for it", async () => {
  await using broker = new TestBroker();
  using link = broker.connect({ wake: true });
  using server = broker.connect({ wake: true });
  for (let round = 0; round < 4; round++) {
    using service = server.listen("x", { capacity: 8192 });
    for (const channel of await connect(link, service, { capacity: 4096 })) channel.close();
    const waiting = service.acceptAsync().catch(() => undefined);
    server.sync();
    const dialled = link.dialAsync("x", { capacity: 4096 }).catch(() => undefined);
    link.sync(); // the broker has told both, and the service has not looked
    service.close();
    server.sync();
    (await dialled)?.close();
    expect(await Promise.race([waiting, undefined])).toBeUndefined();
  }
  link.sync();
  server.sync();
  expect(ownRings().spare).toBeLessThanOrEqual(2 + 1); // none of those who ended
  using service = server.listen("x", { capacity: 8192 });
  const waiting = service.acceptAsync(); // learned from no channel yet
  (await link.dialAsync("x", { capacity: 4096 })).close();
  (await waiting)?.close();
});

test("channels that nobody finishes count among their user's descriptors, and only while they are not whole", async () => {
  await using broker = new TestBroker("[limits]\nmaxFdsPerUser = 256\n");
  using link = broker.connect({ wake: true });
  using service = link.listen("x", { capacity: 4096 });
  using stack = new DisposableStack();
  for (let time = 0; time < 20; time++)
    for (const channel of await connect(link, service, { capacity: 4096 })) stack.use(channel);
  using peer = raw(broker);
  peer.send(message(MANAGER, 1, 5, ...text("deaf"), 4096));
  const [MAP, FAILED] = [0, 2];
  let object = 5;
  const dial = (): number => {
    peer.send(message(MANAGER, 2, ++object, ...text("deaf"), 4096));
    return nextOf(peer, object).opcode;
  };
  const open = async (): Promise<number> => {
    while (dial() !== MAP) await Bun.sleep(500); // a thread that closes what was before is late, which counts as well
    return object;
  };
  const first = await open();
  for (let count = 1; count < 128; count++) await open(); // two descriptors each
  expect(dial()).toBe(FAILED);
  peer.send(message(first, 0)); // destroy
  await open();
});

test("an end that is given up takes its spare ring with it", async () => {
  await using broker = new TestBroker();
  using link = broker.connect({ wake: true });
  using deaf = raw(broker); // offers, and then never maps what it gets
  deaf.send(message(MANAGER, 1, 5, ...text("deaf"), 4096));
  await waitUntil(() => link.list("deaf").length > 0, "the name to be offered");
  for (let time = 0; time < 3; time++) {
    const dialled = link.dialAsync("deaf", { capacity: 4096, timeoutMs: 500 });
    link.sync(); // the broker has answered
    await expect(dialled).rejects.toThrow("did not answer in time");
  }
  link.sync();
  expect(ownRings()).toEqual({ made: 0, spare: 0 });
});

function nextOf(peer: RawPeer, sender: number): RawEvent {
  for (let event = peer.next(); event !== undefined; event = peer.next()) if (event.sender === sender) return event;
  throw new Error("The connection ended");
}

function spareRing(capacity: number): OwnedFd {
  const ring = memfdCreate("spare");
  ftruncate(ring, DATA_OFFSET + capacity);
  addSeals(ring, RING_SEALS);
  return ring;
}

test("the broker writes nothing into a spare ring: its header is its maker's", async () => {
  await using broker = new TestBroker();
  using server = broker.connect({ wake: true });
  using service = server.listen("x", { capacity: 4096 });
  using peer = raw(broker);
  using ring = memfdCreate("spare");
  write(ring, new Uint8Array(32).fill(7));
  ftruncate(ring, DATA_OFFSET + 4096);
  addSeals(ring, RING_SEALS);
  peer.send(message(MANAGER, 13, 77), [ring]);
  peer.send(message(MANAGER, 2, 6, ...text("x"), 4096));
  expect(await service.acceptAsync(500)).toBeUndefined(); // who is to read it finds no ring
  expect(nextOf(peer, 6).opcode).toBe(3); // open
  const header = new Uint8Array(32);
  readAt(ring, header, 0);
  expect(header).toEqual(new Uint8Array(32).fill(7));
  server.sync();
});

for (const [version, manager] of [
  [1, 3],
  [2, MANAGER],
] as const) {
  test(`a ring that a client of version ${version} has mapped and not sealed ends its connection, and is not sealed for it`, async () => {
    await using broker = new TestBroker();
    using link = broker.connect({ wake: true });
    using _service = link.listen("x", { capacity: 4096 });
    using peer = raw(broker);
    peer.send(message(manager, 2, 6, ...text("x"), 4096));
    expect(nextOf(peer, 6).opcode).toBe(0); // map
    const [ring] = peer.received;
    if (ring === undefined) throw new Error("There was no ring");
    peer.send(message(6, 1)); // mapped
    expect(peer.nextError()?.message).toMatch(/F_SEAL_SHRINK is missing, .*; who maps it seals it/);
    expect(getSeals(ring) & RING_SEALS).toBe(0);
    link.sync();
  });
}

test("a ring that its client has made larger than was asked for, and paid, ends its connection", async () => {
  await using broker = new TestBroker();
  using link = broker.connect({ wake: true });
  using _service = link.listen("x", { capacity: 4096 });
  using peer = raw(broker);
  peer.send(message(MANAGER, 2, 6, ...text("x"), 4096));
  expect(nextOf(peer, 6).opcode).toBe(0); // map
  const [ring] = peer.received;
  if (ring === undefined) throw new Error("There was no ring");
  ftruncate(ring, ringFileBytes(1 << 20));
  addSeals(ring, RING_SEALS);
  peer.send(message(6, 1)); // mapped
  expect(peer.nextError()?.message).toMatch(/The ring of the channel to "x" has another size than it was made with/);
  link.sync();
});

test("an object of version 1 gets no channel that its client would have to have a spare ring for", async () => {
  await using broker = new TestBroker();
  using link = broker.connect({ wake: true });
  using _service = link.listen("x", { capacity: 4096 });
  using peer = raw(broker);
  using ring = spareRing(4096);
  peer.send(message(MANAGER, 13, 77), [ring]);
  peer.send(message(3, 2, 5, ...text("x"), 4096)); // dial, by the manager in version 1
  for (let event = peer.next(); ; event = peer.next()) {
    if (event?.sender !== 5) continue;
    expect(event.opcode).toBe(0); // map
    break;
  }
});

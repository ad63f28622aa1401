/** Rings that clients make ahead: channels are whole in one turn, and who cheats with one hurts only his own channels. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { ftruncate, memfdCreate } from "../../ffi/mod.ts";
import type { Channel } from "../../lib/channel/channel.ts";
import type { BrokerLink, DialOptions } from "../../lib/client/broker-link.ts";
import type { Service } from "../../lib/mod.ts";
import { DATA_OFFSET } from "../../lib/ring/layout.ts";
import { TestBroker, waitUntil } from "../helpers/broker.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { message, RawPeer, text } from "../helpers/raw-peer.ts";

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

test("an end that is given up takes its spare ring with it", async () => {
  await using broker = new TestBroker();
  using link = broker.connect({ wake: true });
  using deaf = new RawPeer(broker.socketPath); // says hello and offers, and then never maps what it gets
  deaf.greet();
  deaf.send(message(3, 1, 4, ...text("deaf"), 4096));
  await waitUntil(() => link.list("deaf").length > 0, "the name to be offered");
  for (let time = 0; time < 3; time++)
    expect(() => link.dial("deaf", { capacity: 4096, timeoutMs: 50 })).toThrow("did not answer in time");
  link.sync();
  expect(ownRings()).toEqual({ made: 0, spare: 0 });
});

const REGISTRY = 2;
const MANAGER = 4;
const SPARE_DROPPED = 2;

/** A client that speaks for itself, with the manager in its newest version. */
function raw(broker: TestBroker): RawPeer {
  const peer = new RawPeer(broker.socketPath);
  peer.greet();
  peer.send(message(REGISTRY, 0, 1, ...text("shmlink_manager_v1"), 2, MANAGER));
  return peer;
}

test("a spare ring that shrinks before it is used ends the dial of who made it, and nothing else", async () => {
  await using broker = new TestBroker();
  using link = broker.connect({ wake: true });
  using _service = link.listen("x", { capacity: 4096 });
  using peer = raw(broker);
  using ring = memfdCreate("spare");
  ftruncate(ring, DATA_OFFSET + 4096);
  peer.send(message(MANAGER, 13, 77), [ring]);
  peer.send(message(1, 0, 5)); // wl_display.sync: it has it
  for (let event = peer.next(); event?.sender !== 5; event = peer.next()) expect(event).toBeDefined();
  ftruncate(ring, 0);
  peer.send(message(MANAGER, 2, 6, ...text("x"), 4096));
  const told: string[] = [];
  while (told.length < 2) {
    const event = peer.next();
    if (event === undefined) throw new Error("The connection ended");
    if (event.sender === MANAGER || event.sender === 6) told.push(`${event.sender}.${event.opcode}`);
  }
  expect(told.sort()).toEqual([`${MANAGER}.${SPARE_DROPPED}`, "6.2"]);
  link.sync();
});

test("an object of version 1 gets no channel that its client would have to have a spare ring for", async () => {
  await using broker = new TestBroker();
  using link = broker.connect({ wake: true });
  using _service = link.listen("x", { capacity: 4096 });
  using peer = raw(broker);
  using ring = memfdCreate("spare");
  ftruncate(ring, DATA_OFFSET + 4096);
  peer.send(message(MANAGER, 13, 77), [ring]);
  peer.send(message(3, 2, 5, ...text("x"), 4096)); // dial, by the manager in version 1
  for (let event = peer.next(); ; event = peer.next()) {
    if (event?.sender !== 5) continue;
    expect(event.opcode).toBe(0); // map
    break;
  }
});

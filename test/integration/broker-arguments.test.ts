/** Arguments that no broker takes: bits that mean nothing, and processes that are not the client's own. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { addSeals, constants, ftruncate, memfdCreate, type OwnedFd } from "../../ffi/mod.ts";
import type { BrokerLink } from "../../lib/client/broker-link.ts";
import { readProtocol } from "../../lib/protocol/scanner/model.ts";
import { CHECKOUT, TestBroker } from "../helpers/broker.ts";
import { message, RawPeer, text } from "../helpers/raw-peer.ts";

const REGISTRY = 2;
const MANAGER = 3;
const INVALID_ARGUMENT = 2;
const XML = join(CHECKOUT, "lib", "protocol", "shmlink-v1.xml");

let broker: TestBroker;
let witness: BrokerLink;

beforeAll(() => {
  broker = new TestBroker();
  witness = broker.connect({ name: "witness" });
});

afterAll(async () => {
  expect(witness.list().length).toBeGreaterThan(0);
  witness.close();
  await broker[Symbol.asyncDispose]();
});

const { F_SEAL_SHRINK, F_SEAL_GROW } = constants;

function makeCounters(sizeBytes = 4096, seals: number = F_SEAL_SHRINK | F_SEAL_GROW): OwnedFd {
  const fd = memfdCreate("counters");
  ftruncate(fd, sizeBytes);
  addSeals(fd, seals);
  return fd;
}

for (const [which, make] of Object.entries({
  "that may grow": () => makeCounters(4096, F_SEAL_SHRINK),
  "of more than a page": () => makeCounters(8192),
})) {
  test(`counters ${which} are refused: the broker would have to give all of it back`, () => {
    using peer = new RawPeer(broker.socketPath);
    peer.greet();
    using counters = make();
    peer.send(message(MANAGER, 3, 4, ...text("127.0.0.1"), 8123, ...text("/tmp/x.sock"), 0, 0), [counters]);
    expect(peer.nextError()?.message).toMatch(/a memfd of 4096 bytes with F_SEAL_SHRINK and F_SEAL_GROW is needed/);
  });
}

function register(peer: RawPeer, flags: number, pid: number, address = "127.0.0.1", id = 4): void {
  using counters = makeCounters();
  peer.send(message(MANAGER, 3, id, ...text(address), 8123, ...text("/tmp/x.sock"), flags, pid), [counters]);
}

/** Every request with a bitfield: sends it with `bits`. */
const BITFIELDS: Readonly<Record<string, (peer: RawPeer, bits: number) => void>> = {
  "shmlink_manager_v1.register_listener.flags": (peer, bits) => register(peer, bits, 0),
  "shmlink_manager_v1.take.flags": (peer, bits) => peer.send(message(MANAGER, 8, 4, ...text("taken"), bits)),
  "shmlink_manager_v1.listen_directed.directions": (peer, bits) => directed(peer, 11, bits),
  "shmlink_manager_v1.dial_directed.directions": (peer, bits) => directed(peer, 12, bits),
  "shmlink_offer_v1.publish.flags": (peer, bits) => {
    peer.send(message(MANAGER, 7, 4, ...text("offered")));
    peer.send(message(4, 2, bits));
  },
  "shmlink_grant_v1.add.rights": (peer, bits) => {
    peer.send(message(MANAGER, 9, 4));
    peer.send(message(4, 1, bits, ...text("granted")));
  },
  "shmlink_grant_v1.revoke.rights": (peer, bits) => {
    peer.send(message(MANAGER, 9, 4));
    peer.send(message(4, 3, bits, ...text("granted")));
  },
};

/** The manager in its newest version, as object 4; the request makes object 5. */
function directed(peer: RawPeer, opcode: number, bits: number): void {
  peer.send(message(REGISTRY, 0, 1, ...text("shmlink_manager_v1"), 2, 4));
  peer.send(message(4, opcode, 5, ...text("one-way"), 0, bits));
}

test("the requests below are all that have an enum", () => {
  const interfaces = readProtocol(readFileSync(XML, "utf8"), XML);
  const found = interfaces.flatMap(({ name, requests }) =>
    requests.flatMap((request) =>
      request.args.filter((arg) => arg.enum !== undefined).map((arg) => `${name}.${request.name}.${arg.name}`),
    ),
  );
  expect(found.sort()).toEqual(Object.keys(BITFIELDS).sort());
});

describe("a bit that means nothing ends the session that sets it in", () => {
  for (const [name, send] of Object.entries(BITFIELDS)) {
    for (const bits of [0x400, 0x80000001]) {
      test(`${name}: ${bits.toString(16)}`, () => {
        using peer = new RawPeer(broker.socketPath);
        peer.greet();
        send(peer, bits);
        const error = peer.nextError();
        expect(error).toMatchObject({ objectId: MANAGER, code: INVALID_ARGUMENT });
        expect(error?.message).toMatch(new RegExp(`^Invalid (flags|rights|directions) ${bits}: `));
      });
    }
  }
});

test("no direction at all ends the session, and version 1 knows no request for one", () => {
  for (const opcode of [11, 12]) {
    using none = new RawPeer(broker.socketPath);
    none.greet();
    directed(none, opcode, 0);
    expect(none.nextError()).toMatchObject({
      objectId: MANAGER,
      message: expect.stringMatching(/^Invalid directions 0: /),
    });
    using older = new RawPeer(broker.socketPath);
    older.greet();
    older.send(message(MANAGER, opcode, 4, ...text("one-way"), 0, 1));
    expect(older.nextError()?.message).toContain("unknown-opcode");
  }
});

test("who registers a listener of a process that is not its own hears so, and it is logged", () => {
  using peer = new RawPeer(broker.socketPath);
  peer.greet("liar");
  register(peer, 0, broker.pid);
  expect(peer.nextError()).toEqual({
    objectId: MANAGER,
    code: INVALID_ARGUMENT,
    message: `Invalid pid ${broker.pid}: it does not descend from process ${process.pid}, the client`,
  });
  expect(witness.list().filter(({ kind }) => kind === "listener")).toEqual([]);
  expect(broker.log).toMatch(
    new RegExp(`Refused to register a listener of process ${broker.pid}: .*pid ${process.pid}`),
  );
});

test("a listener's process is the client, or its child, or the client for one that has ended", () => {
  const ended = Bun.spawnSync(["true"]);
  const child = Bun.spawn(["cat"], { stdin: "pipe" });
  for (const [claimed, listed] of [
    [0, process.pid],
    [process.pid, process.pid],
    [child.pid, child.pid],
    [ended.pid, process.pid],
  ] as const) {
    using peer = new RawPeer(broker.socketPath);
    peer.greet();
    register(peer, 0, claimed);
    for (let event = peer.next(); event?.sender !== 4; event = peer.next());
    expect(witness.list().find(({ kind }) => kind === "listener")?.pid).toBe(listed);
    peer.send(message(4, 0));
    peer.send(message(1, 0, 5));
    for (let event = peer.next(); event?.sender !== 5; event = peer.next());
  }
  child.kill();
});

test("an address has one form, however it is written", () => {
  using peer = new RawPeer(broker.socketPath);
  peer.greet();
  register(peer, 0, 0, "0:0::0:0:0:1");
  for (let event = peer.next(); event?.sender !== 4; event = peer.next());
  expect(witness.list("8123").map(({ name, details }) => [name, details["address"]])).toEqual([
    ["tcp:[::1]:8123", "::1"],
  ]);
});

test("a listener at an IPv6 address can be granted by its name, however the address is written", () => {
  using minted = witness.mint([{ rights: ["listen"], name: "tcp:[::1]:8123" }]);
  using peer = new RawPeer(minted.fd.dup());
  peer.greet();
  register(peer, 0, 0, "::2");
  register(peer, 0, 0, "0:0::0:0:0:1", 5);
  const heard = (object: number): number | undefined => {
    let event = peer.next();
    while (event?.sender !== object) event = peer.next();
    return event.opcode;
  };
  const [REGISTERED, FAILED] = [0, 1];
  expect([heard(4), heard(5)]).toEqual([FAILED, REGISTERED]);
});

/** What the broker does with peers that break the protocol: they hear why, they end, nobody else notices. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { constants, memfdCreate, open } from "../../ffi/mod.ts";
import type { BrokerLink } from "../../lib/client/broker-link.ts";
import { TestBroker, waitUntil } from "../helpers/broker.ts";
import { message, RawPeer, text } from "../helpers/raw-peer.ts";

let broker: TestBroker;
let witness: BrokerLink;
let fdsAtStart: number;

beforeAll(async () => {
  broker = new TestBroker("[limits]\nmaxServicesPerUser = 3\n");
  witness = broker.connect({ name: "witness" });
  witness.listen("steady");
  fdsAtStart = await broker.fdCountAtRest();
});

afterAll(async () => {
  expect(witness.list("steady")).toHaveLength(1);
  await waitUntil(() => broker.fdCount() === fdsAtStart, "the broker to close what misbehaving peers left");
  witness.close();
  await broker[Symbol.asyncDispose]();
});

// As libwayland does it, what does not parse is an error of wl_display, what may not be said one of the object.
const MANAGER = 3;
const breaches: readonly (readonly [
  name: string,
  send: (peer: RawPeer) => void,
  expected: { objectId: number; code: number },
])[] = [
  ["a size below the header", (peer) => peer.send(new Uint8Array([1, 0, 0, 0, 0, 0, 4, 0])), { objectId: 1, code: 1 }],
  [
    "a size that is not whole words",
    (peer) => peer.send(new Uint8Array([1, 0, 0, 0, 0, 0, 9, 0])),
    { objectId: 1, code: 1 },
  ],
  [
    "a message over 4096 bytes",
    (peer) => peer.send(message(1, 0, ...new Array(1100).fill(7))),
    { objectId: 1, code: 1 },
  ],
  ["an object that does not exist", (peer) => peer.send(message(77, 0)), { objectId: 1, code: 0 }],
  ["a request that does not exist", (peer) => peer.send(message(1, 9)), { objectId: 1, code: 1 }],
  ["an id outside the client's range", (peer) => peer.send(message(1, 1, 0xff000001)), { objectId: 1, code: 1 }],
  ["an id in use", (peer) => peer.send(message(1, 1, 1)), { objectId: 1, code: 1 }],
  [
    "an unknown global",
    (peer) => {
      peer.send(message(1, 1, 2));
      peer.send(message(2, 0, 1, ...text("wl_seat"), 1, 3));
    },
    { objectId: 2, code: 0 },
  ],
  [
    "a request before hello",
    (peer) => {
      peer.send(message(1, 1, 2));
      peer.send(message(2, 0, 1, ...text("shmlink_manager_v1"), 1, 3));
      peer.send(message(3, 6, 4, ...text("")));
    },
    { objectId: MANAGER, code: 0 },
  ],
  [
    "a string without its NUL",
    (peer) => {
      peer.greet();
      peer.send(message(3, 6, 4, 4, 0x61616161));
    },
    { objectId: 1, code: 1 },
  ],
  [
    "a string longer than its message",
    (peer) => {
      peer.greet();
      peer.send(message(3, 6, 4, 400, 0x61616161));
    },
    { objectId: 1, code: 1 },
  ],
  [
    "a second hello",
    (peer) => {
      peer.greet();
      using fd = open("/dev/null", constants.O_RDONLY);
      peer.send(message(3, 0, ...text("again")), [fd]);
    },
    { objectId: MANAGER, code: 1 },
  ],
  [
    "a hello without its descriptor",
    (peer) => {
      peer.send(message(1, 1, 2));
      peer.send(message(2, 0, 1, ...text("shmlink_manager_v1"), 1, 3));
      peer.send(message(3, 0, ...text("raw")));
    },
    { objectId: 1, code: 1 },
  ],
  [
    "a name that cannot be",
    (peer) => {
      peer.greet();
      peer.send(message(3, 1, 4, ...text("no spaces"), 0));
    },
    { objectId: MANAGER, code: 2 },
  ],
  [
    "a capacity that is no power of two",
    (peer) => {
      peer.greet();
      peer.send(message(3, 1, 4, ...text("odd"), 5000));
    },
    { objectId: MANAGER, code: 2 },
  ],
  [
    "counters that are not sealed",
    (peer) => {
      peer.greet();
      using fd = memfdCreate("x");
      peer.send(message(3, 3, 4, ...text("127.0.0.1"), 80, ...text("/tmp/x"), 0, 0), [fd]);
    },
    { objectId: MANAGER, code: 2 },
  ],
];

describe("the broker ends a session for", () => {
  for (const [name, send, { objectId, code }] of breaches) {
    test(name, () => {
      using peer = new RawPeer(broker.socketPath);
      send(peer);
      const error = peer.nextError();
      expect(error).toMatchObject({ objectId, code });
      expect(error?.message.length).toBeGreaterThan(0);
      expect(witness.list("steady")).toHaveLength(1);
    });
  }
});

describe("the broker survives a peer that", () => {
  test("sends half a message and vanishes", () => {
    using peer = new RawPeer(broker.socketPath);
    peer.send(new Uint8Array([1, 0, 0, 0, 0, 0]));
  });

  test("sends descriptors that belong to no request", () => {
    using peer = new RawPeer(broker.socketPath);
    using spare = open("/dev/null", constants.O_RDONLY);
    peer.send(message(1, 0, 2), new Array(20).fill(spare));
  });

  test("floods it with requests and never reads", async () => {
    using peer = new RawPeer(broker.socketPath);
    peer.greet();
    for (let id = 4; id < 20_000; id++) {
      try {
        peer.send(message(1, 0, id));
      } catch {
        break; // disconnected: that is what should happen in the end
      }
    }
    expect(witness.list("steady")).toHaveLength(1);
  });

  test("dials and vanishes before it maps its ring", async () => {
    {
      using peer = new RawPeer(broker.socketPath);
      peer.greet();
      peer.send(message(3, 2, 4, ...text("steady"), 0));
      while (peer.received.length < 2) peer.next();
    }
    await waitUntil(() => !witness.list().some((entry) => entry.kind === "channel"), "the channel to go");
  });
});

test("a limit of the configuration is a refusal that names the limit, not the end of the session", () => {
  using link = broker.connect({ name: "greedy" });
  link.listen("one");
  link.listen("two");
  expect(() => link.listen("three")).toThrow(/limits\.maxServicesPerUser is 3/);
  expect(link.list("one")).toHaveLength(1);
});

test("sync is answered after everything before it", () => {
  using peer = new RawPeer(broker.socketPath);
  peer.send(message(1, 0, 2));
  expect(peer.next()).toMatchObject({ sender: 2, opcode: 0 });
  expect(peer.next()).toMatchObject({ sender: 1, opcode: 1 }); // delete_id
});

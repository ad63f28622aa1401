/** Both ends of a connection against each other, over a transport in memory. The descriptors are real. */
import { expect, test } from "bun:test";
import { constants, type OwnedFd, open } from "../../../ffi/mod.ts";
import { ProtocolError } from "../../../lib/errors.ts";
import {
  type AnyEvent,
  type AnyRequest,
  ClientConnection,
  ServerConnection,
} from "../../../lib/protocol/connection.ts";
import { INTERFACES } from "../../../lib/protocol/shmlink-v1.gen.ts";
import { type MemoryPairOptions, memoryPair } from "../../../lib/transport/memory.ts";
import type { ObjectId } from "../../../lib/util/brand.ts";
import { DISPLAY_ID } from "../../../lib/wire/object-map.ts";
import { expectNoFdLeaks } from "../../helpers/fd-leak.ts";

expectNoFdLeaks();

const devNull = (): OwnedFd => open("/dev/null", constants.O_RDONLY);

/** A client with its manager bound, and a broker that answers what every broker answers. */
class Pair implements Disposable {
  readonly client: ClientConnection;
  readonly server: ServerConnection;
  readonly events: AnyEvent<OwnedFd>[] = [];
  readonly requests: AnyRequest<OwnedFd>[] = [];
  readonly manager: ObjectId;

  constructor(options: MemoryPairOptions = {}) {
    const [left, right] = memoryPair(options);
    this.client = new ClientConnection(left);
    this.server = new ServerConnection(right);
    const registry = this.client.newObject("wl_registry");
    this.client.request(DISPLAY_ID, "wl_display", { kind: "get_registry", registry });
    this.manager = this.client.newObject("shmlink_manager_v1");
    const bind = { kind: "bind", name: 1, interface: "shmlink_manager_v1", version: 1, id: this.manager } as const;
    this.client.request(registry, "wl_registry", bind);
    this.settle();
    this.requests.length = 0;
  }

  /** Lets both ends read until neither has anything left. */
  settle(): void {
    for (let before = -1; before !== this.requests.length + this.events.length; ) {
      before = this.requests.length + this.events.length;
      this.client.flush();
      this.server.pump((request) => this.answer(request));
      this.server.flush();
      this.client.pump((event) => this.events.push(event));
    }
  }

  answer(message: AnyRequest<OwnedFd>): void {
    this.requests.push(message);
    if (message.interface === "wl_display" && message.request.kind === "sync") {
      this.server.send(message.request.callback, "wl_callback", { kind: "done", callbackData: 0 });
    }
  }

  dial(): ObjectId {
    const id = this.client.newObject("shmlink_channel_v1");
    this.client.request(this.manager, "shmlink_manager_v1", { kind: "dial", id, name: "x", capacity: 0 });
    return id;
  }

  listen(): ObjectId {
    const id = this.client.newObject("shmlink_service_v1");
    this.client.request(this.manager, "shmlink_manager_v1", { kind: "listen", id, name: "x", capacity: 0 });
    return id;
  }

  sync(): ObjectId {
    const callback = this.client.newObject("wl_callback");
    this.client.request(DISPLAY_ID, "wl_display", { kind: "sync", callback });
    return callback;
  }

  /** What pump() of the broker throws. */
  fault(): ProtocolError {
    this.client.flush();
    try {
      this.server.pump((message) => this.requests.push(message));
    } catch (error) {
      if (error instanceof ProtocolError) return error;
      throw error;
    }
    throw new Error("The broker found no fault");
  }

  [Symbol.dispose](): void {
    this.client.close();
    this.server[Symbol.dispose]();
  }
}

/** Bytes as a lying client sends them. */
function rawServer(): { server: ServerConnection; say: (bytes: Uint8Array, fds?: OwnedFd[]) => void } {
  const [left, right] = memoryPair();
  const say = (bytes: Uint8Array, fds: OwnedFd[] = []): void => {
    left.queue(bytes, fds);
    left.flush();
  };
  return { server: new ServerConnection(right), say };
}

function words(...values: number[]): Uint8Array {
  return new Uint8Array(new Uint32Array(values).buffer);
}

test("a sync is answered once the requests before it were handled, and its id is free again", () => {
  using pair = new Pair();
  const callback = pair.sync();
  expect(callback as number).toBe(4);
  pair.settle();
  expect(pair.events).toEqual([
    { object: callback, interface: "wl_callback", event: { kind: "done", callbackData: 0 } },
  ]);
  expect(pair.sync()).toBe(callback);
});

test("a client's id is not reused before delete_id", () => {
  using pair = new Pair();
  const channel = pair.dial();
  pair.client.request(channel, "shmlink_channel_v1", { kind: "destroy" });
  expect(pair.dial()).not.toBe(channel);
  pair.settle();
  expect(pair.dial()).toBe(channel);
  pair.settle();
  expect(pair.server.interfaceOf(channel)).toBe("shmlink_channel_v1");
});

test.each([1, 3, 4, 9, 64])("a conversation is the same in pieces of %d bytes", (pieceBytes) => {
  using pair = new Pair({ maxReceiveBytes: pieceBytes, maxSendBytes: pieceBytes });
  pair.client.request(pair.manager, "shmlink_manager_v1", { kind: "hello", name: "grün", doorbell: devNull() });
  const channel = pair.dial();
  pair.settle();
  const [hello, dial] = pair.requests;
  if (hello?.interface !== "shmlink_manager_v1" || hello.request.kind !== "hello") throw new Error("No hello came");
  expect(hello.request.name).toBe("grün");
  expect(hello.request.doorbell.closed).toBe(false);
  hello.request.doorbell.close();
  expect(dial?.request).toEqual({ kind: "dial", id: channel, name: "x", capacity: 0 } as never);
});

test("an event carries its descriptors, which are the receiver's", () => {
  using pair = new Pair();
  const channel = pair.dial();
  pair.settle();
  const map = { kind: "map", channelId: 5, side: 0, memfd: devNull(), doorbell: devNull() } as const;
  pair.server.send(channel, "shmlink_channel_v1", map);
  pair.settle();
  const [event] = pair.events;
  if (event?.interface !== "shmlink_channel_v1" || event.event.kind !== "map") throw new Error("No map came");
  expect([event.event.memfd.closed, event.event.doorbell.closed]).toEqual([false, false]);
  event.event.memfd.close();
  event.event.doorbell.close();
});

test("events for an object that the client has destroyed are dropped with their descriptors, later ones are not", () => {
  using pair = new Pair();
  const gone = pair.dial();
  const stays = pair.dial();
  pair.settle();
  pair.server.send(gone, "shmlink_channel_v1", {
    kind: "map",
    channelId: 1,
    side: 0,
    memfd: devNull(),
    doorbell: devNull(),
  });
  pair.server.send(stays, "shmlink_channel_v1", { kind: "peer", memfd: devNull(), pid: 1, uid: 2 });
  pair.client.request(gone, "shmlink_channel_v1", { kind: "destroy" });
  pair.settle();
  expect(pair.events.map(({ object }) => object)).toEqual([stays]);
  for (const { interface: name, event } of pair.events)
    if (name === "shmlink_channel_v1" && event.kind === "peer") event.memfd.close();
});

test("who destroys an object may hear all that was on its way to it, and that this was all", () => {
  using pair = new Pair();
  const [leaving, again] = [pair.dial(), pair.dial()];
  pair.settle();
  let gone = 0;
  const failed = { kind: "failed", code: 0, message: "late" } as const;
  for (const id of [leaving, again]) {
    pair.server.send(id, "shmlink_channel_v1", failed);
    pair.client.request(id, "shmlink_channel_v1", { kind: "destroy" }, () => {
      gone += 1;
    });
  }
  pair.client.request(again, "shmlink_channel_v1", { kind: "destroy" });
  pair.settle();
  expect(pair.events).toEqual([{ object: leaving, interface: "shmlink_channel_v1", event: failed }]);
  expect(gone).toBe(1);
  expect(pair.requests.filter(({ request }) => request.kind === "destroy")).toHaveLength(2);
  expect([pair.dial(), pair.dial()].toSorted()).toEqual([leaving, again]);
});

test("a destructor event frees the object on both sides", () => {
  using pair = new Pair();
  const id = pair.client.newObject("shmlink_resolution_v1");
  pair.client.request(pair.manager, "shmlink_manager_v1", { kind: "resolve", id, address: "::1", port: 1 });
  pair.settle();
  const objects = [pair.client.objectCount, pair.server.objectCount];
  pair.server.send(id, "shmlink_resolution_v1", { kind: "none" });
  pair.settle();
  expect([pair.client.objectCount, pair.server.objectCount]).toEqual(objects.map((count) => count - 1));
  expect(pair.client.newObject("wl_callback")).toBe(id);
});

test("an object that the broker creates lives until the client destroys it, then its id is reused", () => {
  using pair = new Pair();
  const service = pair.listen();
  pair.settle();
  const announce = (): ObjectId => {
    const channel = pair.server.createServerObject("shmlink_channel_v1");
    pair.server.send(service, "shmlink_service_v1", { kind: "incoming", channel, pid: 1, uid: 2 });
    pair.settle();
    return channel;
  };
  const [first, second] = [announce(), announce()];
  expect([first, second] as number[]).toEqual([0xff000000, 0xff000001]);
  expect(pair.client.interfaceOf(first)).toBe("shmlink_channel_v1");
  pair.client.request(first, "shmlink_channel_v1", { kind: "destroy" });
  pair.settle();
  expect(announce()).toBe(first);
  expect(pair.client.interfaceOf(first)).toBe("shmlink_channel_v1");
});

test("an object announced to a service that is destroyed already is refused, and what follows for it dropped", () => {
  using pair = new Pair();
  const service = pair.listen();
  pair.settle();
  const channel = pair.server.createServerObject("shmlink_channel_v1");
  pair.server.send(service, "shmlink_service_v1", { kind: "incoming", channel, pid: 1, uid: 2 });
  pair.server.send(channel, "shmlink_channel_v1", {
    kind: "map",
    channelId: 1,
    side: 1,
    memfd: devNull(),
    doorbell: devNull(),
  });
  pair.client.request(service, "shmlink_service_v1", { kind: "destroy" });
  pair.settle();
  pair.settle();
  expect(pair.events).toEqual([]);
  expect(pair.requests.at(-1)).toEqual({
    object: channel,
    interface: "shmlink_channel_v1",
    request: { kind: "destroy" },
  });
  expect(pair.server.interfaceOf(channel)).toBeUndefined();
});

test("requests under way to an object that the broker destroyed are dropped with what they create", () => {
  using pair = new Pair();
  const channel = pair.dial();
  pair.settle();
  pair.requests.length = 0;
  pair.server.destroyObject(channel);
  pair.server.destroyObject(pair.manager);
  pair.client.request(channel, "shmlink_channel_v1", { kind: "mapped" });
  pair.client.request(channel, "shmlink_channel_v1", { kind: "destroy" });
  pair.client.request(pair.manager, "shmlink_manager_v1", { kind: "hello", name: "late", doorbell: devNull() });
  const late = pair.dial();
  pair.client.request(late, "shmlink_channel_v1", { kind: "destroy" });
  pair.settle();
  expect(pair.requests).toEqual([]);
  pair.sync();
  pair.settle();
  expect(pair.events.length).toBe(1);
});

test("a client can still use, to no effect, an object whose id the broker deleted, and then gets the id back", () => {
  using pair = new Pair();
  const channel = pair.dial();
  pair.settle();
  pair.server.destroyObject(channel);
  pair.settle();
  pair.requests.length = 0;
  pair.client.request(channel, "shmlink_channel_v1", { kind: "destroy" });
  pair.settle();
  expect(pair.requests).toEqual([]);
  expect(pair.dial()).toBe(channel);
  pair.settle();
});

test("the broker's error reaches the client as a ProtocolError with object, code and message", () => {
  using pair = new Pair();
  pair.server.sendError(pair.manager, 1, `said "\0" ${"x".repeat(5000)}`);
  pair.server.flush();
  let caught: unknown;
  try {
    pair.client.pump(() => undefined);
  } catch (error) {
    caught = error;
  }
  expect(caught).toBeInstanceOf(ProtocolError);
  expect(caught).toMatchObject({ objectId: pair.manager, wireCode: 1 });
  expect(String(caught)).toContain('The broker ended the connection: said "\ufffd" xxx');
  expect(String(caught)).toContain(`(shmlink_manager_v1@${pair.manager}, error 1)`);
  expect(pair.client.pump(() => undefined)).toBe("ended");
});

const INVALID_OBJECT = 0;
const INVALID_METHOD = 1;
const size = (bytes: number, opcode = 0): number => bytes * 0x10000 + opcode;

const BREACHES: [string, number, string, Uint8Array][] = [
  ["an unknown object", INVALID_OBJECT, "(unknown-object) for object@9, opcode 0", words(9, size(8))],
  ["an unknown opcode", INVALID_METHOD, "(unknown-opcode) for wl_display@1, opcode 2", words(1, size(8, 2))],
  ["a message too long", INVALID_METHOD, "(size-too-large)", words(1, size(8192))],
  ["a missing argument", INVALID_METHOD, '(truncated-argument) for wl_display@1, "sync"', words(1, size(8))],
  ["a new id of the broker's range", INVALID_METHOD, "not of the sender's range", words(1, size(12), 0xff000000)],
  ["a new id that is wl_display's", INVALID_METHOD, "not of the sender's range", words(1, size(12), 1)],
  [
    "a new id in use",
    INVALID_METHOD,
    "Invalid new id 2 for wl_callback: it is in use",
    words(1, size(12, 1), 2, 1, size(12), 2),
  ],
  [
    "a bind of nothing we know",
    INVALID_OBJECT,
    'Cannot bind "a\\n"',
    words(1, size(12, 1), 2, 2, size(28), 1, 3, 0x0a61, 1, 3),
  ],
  ["a request to a callback", INVALID_METHOD, "wl_callback@2, opcode 0", words(1, size(12), 2, 2, size(8))],
];

test.each(BREACHES)("pump() reports %s with code %d", (_what, wireCode, message, bytes) => {
  const { server, say } = rawServer();
  using _ = server;
  say(bytes, [devNull(), devNull()]);
  let caught: unknown;
  try {
    server.pump(() => undefined);
  } catch (error) {
    caught = error;
  }
  expect(caught).toBeInstanceOf(ProtocolError);
  expect(caught).toMatchObject({ objectId: message.startsWith("Cannot bind") ? 2 : 1, wireCode });
  expect(String(caught)).toContain(message);
  say(words(1, size(12), 5));
  expect(server.pump(() => expect.unreachable())).toBe("ended");
});

test("pump() reports a version of a global that does not exist", () => {
  const newest = INTERFACES.shmlink_manager_v1.version;
  for (const version of [0, newest + 1, 0xffffffff]) {
    using pair = new Pair();
    const registry = pair.client.newObject("wl_registry");
    pair.client.request(DISPLAY_ID, "wl_display", { kind: "get_registry", registry });
    const id = pair.client.newObject("shmlink_manager_v1");
    pair.client.request(registry, "wl_registry", {
      kind: "bind",
      name: 1,
      interface: "shmlink_manager_v1",
      version,
      id,
    });
    expect(pair.fault().message).toBe(
      `Cannot bind version ${version} of "shmlink_manager_v1": there are 1 to ${newest}`,
    );
  }
});

test("pump() ends a client that creates objects without end", () => {
  const { server, say } = rawServer();
  using _ = server;
  let next = 2;
  const flood = (): void => {
    for (let round = 0; round < 100; round += 1) {
      say(words(...Array.from({ length: 1000 }, () => [1, size(12, 1), next++]).flat()));
      server.pump(() => undefined);
    }
  };
  expect(flood).toThrow("Too many objects: 65536 is the most on a connection");
});

test("pump() reads a bounded amount at a time and the rest when asked again", () => {
  const { server, say } = rawServer();
  using _ = server;
  const total = 20_000;
  for (let done = 0; done < total; done += 1000) {
    say(words(...Array.from({ length: 1000 }, (_, index) => [1, size(12), 2 + done + index]).flat()));
  }
  const counts: number[] = [];
  for (let count = 0, pumps = 0; pumps < 5; pumps += 1, counts.push(count)) {
    server.pump(() => {
      count += 1;
    });
  }
  expect(counts[0]).toBeLessThan(total);
  expect(counts.at(-1)).toBe(total);
});

test("pump() says ended after what came before the end, and nothing stays open of a message cut off", () => {
  const [left, right] = memoryPair();
  using server = new ServerConnection(right);
  left.queue(words(1, size(12), 2, 1, size(12)), [devNull()]);
  left.flush();
  left.close();
  const kinds: string[] = [];
  const state = server.pump((message) => kinds.push(message.interface));
  expect([state, ...kinds]).toEqual(["ended", "wl_display"]);
});

test("a handler that throws leaves no descriptor of its message, and the next pump() goes on with the next message", () => {
  using pair = new Pair();
  pair.client.request(pair.manager, "shmlink_manager_v1", { kind: "hello", name: "a", doorbell: devNull() });
  pair.client.request(pair.manager, "shmlink_manager_v1", { kind: "hello", name: "b", doorbell: devNull() });
  pair.client.flush();
  const fail = (): never => {
    throw new RangeError("handler");
  };
  expect(() => pair.server.pump(fail)).toThrow("handler");
  const names: string[] = [];
  pair.server.pump(({ request }) => {
    if (request.kind !== "hello") return;
    names.push(request.name);
    request.doorbell.close();
  });
  expect(names).toEqual(["b"]);
});

test("a ProtocolError of the handler ends the reading and closes what was not delivered", () => {
  using pair = new Pair();
  for (const name of ["a", "b"]) {
    pair.client.request(pair.manager, "shmlink_manager_v1", { kind: "hello", name, doorbell: devNull() });
  }
  pair.client.flush();
  const breach = (): never => {
    throw new ProtocolError("breach", { objectId: pair.manager, wireCode: 1 });
  };
  expect(() => pair.server.pump(breach)).toThrow("breach");
  expect(pair.server.pump(() => expect.unreachable())).toBe("ended");
});

test("a connection disposed by its handler delivers nothing more", () => {
  using pair = new Pair();
  const channel = pair.dial();
  pair.client.request(channel, "shmlink_channel_v1", { kind: "destroy" });
  pair.client.request(pair.manager, "shmlink_manager_v1", { kind: "hello", name: "a", doorbell: devNull() });
  pair.client.flush();
  const state = pair.server.pump((message) => {
    pair.requests.push(message);
    if (message.request.kind === "destroy") pair.server[Symbol.dispose]();
  });
  expect(state).toBe("ended");
  expect(pair.requests.map(({ request }) => request.kind)).toEqual(["dial", "destroy"]);
});

test("send() drops an event to an object that is gone, and takes its descriptors", () => {
  using pair = new Pair();
  const [memfd, doorbell] = [devNull(), devNull()];
  pair.server.send(77 as ObjectId, "shmlink_channel_v1", { kind: "map", channelId: 1, side: 0, memfd, doorbell });
  expect([memfd.closed, doorbell.closed]).toEqual([true, true]);
  expect(pair.server.queuedBytes).toBe(0);
});

test("send() refuses the wrong interface, and what does not fit, and takes the descriptors all the same", () => {
  using pair = new Pair();
  const memfd = devNull();
  const peer = { kind: "peer", memfd, pid: 1, uid: 1 } as const;
  expect(() => pair.server.send(pair.manager, "shmlink_channel_v1", peer)).toThrow("it is a shmlink_manager_v1");
  expect(memfd.closed).toBe(true);
  const channel = pair.dial();
  pair.settle();
  const second = devNull();
  const negative = { kind: "peer", memfd: second, pid: -1, uid: 1 } as const;
  expect(() => pair.server.send(channel, "shmlink_channel_v1", negative)).toThrow(RangeError);
  expect(second.closed).toBe(true);
});

test("request() refuses an object that is gone, and gives back the id of a request that does not fit", () => {
  using pair = new Pair();
  const channel = pair.dial();
  pair.client.request(channel, "shmlink_channel_v1", { kind: "destroy" });
  expect(() => pair.client.request(channel, "shmlink_channel_v1", { kind: "destroy" })).toThrow("gone or never was");
  pair.settle();
  const id = pair.client.newObject("shmlink_channel_v1");
  const long = { kind: "dial", id, name: "x".repeat(5000), capacity: 0 } as const;
  expect(() => pair.client.request(pair.manager, "shmlink_manager_v1", long)).toThrow("4096 is the most");
  expect(pair.client.newObject("shmlink_channel_v1")).toBe(id);
});

test("data stays with its object and goes with it", () => {
  using pair = new Pair();
  const channel = pair.dial();
  pair.settle();
  pair.server.setData(channel, "mine");
  expect(pair.server.getData(channel)).toBe("mine");
  let atTheEnd: unknown;
  pair.client.request(channel, "shmlink_channel_v1", { kind: "destroy" });
  pair.client.flush();
  pair.server.pump(({ object }) => {
    atTheEnd = pair.server.getData(object);
  });
  expect(atTheEnd).toBe("mine");
  expect(pair.server.getData(channel)).toBeUndefined();
  expect(() => pair.server.setData(channel, "again")).toThrow("does not exist");
});

test("what came together with a message whose handler threw is delivered by the next pump()", () => {
  using pair = new Pair();
  pair.dial();
  const second = pair.dial();
  pair.client.flush();
  const fail = (): never => {
    throw new RangeError("handler");
  };
  expect(() => pair.server.pump(fail)).toThrow("handler");
  pair.server.pump((message) => pair.requests.push(message));
  expect(pair.requests.map(({ request }) => request)).toEqual([{ kind: "dial", id: second, name: "x", capacity: 0 }]);
});

test("a handler may destroy the object of a destructor itself; using it again is a breach all the same", () => {
  const { server, say } = rawServer();
  using _ = server;
  say(words(1, size(12, 1), 2, 2, size(44), 1, 19, ...managerName(), 1, 3));
  say(words(3, size(24, 2), 4, 2, 0x78, 0));
  say(words(4, size(8), 4, size(8)));
  let destroyed = 0;
  const run = (): unknown =>
    server.pump(({ object, request }) => {
      if (request.kind !== "destroy") return;
      destroyed += 1;
      server.destroyObject(object);
    });
  expect(run).toThrow("(unknown-object) for object@4");
  expect(destroyed).toBe(1);
});

/** "shmlink_manager_v1" with its NUL, in words. */
function managerName(): number[] {
  const bytes = new Uint8Array(20);
  new TextEncoder().encodeInto("shmlink_manager_v1", bytes);
  return [...new Uint32Array(bytes.buffer)];
}

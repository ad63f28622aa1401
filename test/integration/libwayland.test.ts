/**
 * A C program on an unmodified libwayland-client against our end of the protocol: a server of a few
 * lines, which isolates codec and connection, and the broker itself.
 */
import { afterAll, beforeAll, expect } from "bun:test";
import { spawn } from "node:child_process";
import { createHash, type Hash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  accept,
  bind,
  constants,
  listen,
  memfdCreate,
  type OwnedFd,
  socket,
  socketpair,
  unixAddress,
  write,
} from "../../ffi/mod.ts";
import type { Channel } from "../../lib/channel/channel.ts";
import type { Message } from "../../lib/channel/message.ts";
import { ProtocolError } from "../../lib/errors.ts";
import { type AnyRequest, ServerConnection } from "../../lib/protocol/connection.ts";
import { UnixTransport } from "../../lib/transport/unix.ts";
import type { ObjectId } from "../../lib/util/brand.ts";
import { buildLibwaylandProgram, LIBWAYLAND } from "../fixtures/libwayland/build.ts";
import { CHECKOUT, TestBroker } from "../helpers/broker.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { requires } from "../helpers/requires.ts";

const README = readFileSync(join(CHECKOUT, "README.md"), "utf8");
const README_EXAMPLE = /```c\n([\s\S]*?)```/.exec(README)?.[1] ?? "";

let directory: string;
let program: string;

beforeAll(() => {
  directory = mkdtempSync("/tmp/shmlink-libwayland-");
  if (LIBWAYLAND.every(({ missing }) => missing === undefined)) program = buildLibwaylandProgram("client", directory);
});

afterAll(() => rmSync(directory, { recursive: true }));

expectNoFdLeaks();

/** A broker of one connection, without policy, quota or rings: memfds with a word in them instead. */
class TinyServer implements Disposable {
  readonly #listener: OwnedFd;
  #connection: ServerConnection | undefined;
  readonly #services = new Map<string, ObjectId>();
  #channels: ObjectId[] = [];
  #mapped = 0;

  constructor(path: string) {
    this.#listener = socket(constants.AF_UNIX, constants.SOCK_STREAM | constants.SOCK_NONBLOCK);
    bind(this.#listener, unixAddress(path), path);
    listen(this.#listener, 1);
  }

  /** Does what there is to do now. */
  turn(): void {
    if (this.#connection === undefined) {
      const accepted = accept(this.#listener);
      if (accepted !== null) this.#connection = new ServerConnection(new UnixTransport(accepted.fd));
      return;
    }
    const connection = this.#connection;
    try {
      connection.pump((message) => this.#handle(connection, message));
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      connection.sendError(error.objectId as ObjectId, error.wireCode, error.message);
    }
    connection.flush();
  }

  #handle(to: ServerConnection, { object, interface: name, request }: AnyRequest<OwnedFd>): void {
    if (name === "shmlink_channel_v1") return request.kind === "mapped" ? this.#confirm(to) : undefined;
    switch (request.kind) {
      case "sync":
        return to.send(request.callback, "wl_callback", { kind: "done", callbackData: 0 });
      case "get_registry":
        return to.send(request.registry, "wl_registry", {
          kind: "global",
          name: 1,
          interface: "shmlink_manager_v1",
          version: 1,
        });
      case "hello":
        request.doorbell.close();
        if (to.getData(object) !== undefined)
          throw new ProtocolError("A second hello", { objectId: object, wireCode: 1 });
        to.setData(object, request.name);
        return to.send(object, "shmlink_manager_v1", {
          kind: "welcome",
          version: "0",
          uid: 7,
          maxCapacity: 0xffffffff,
        });
      case "list":
        to.send(request.id, "shmlink_listing_v1", entry(5, "broker"));
        to.send(request.id, "shmlink_listing_v1", entry(0, "größer"));
        return to.send(request.id, "shmlink_listing_v1", { kind: "done" });
      case "listen":
        this.#services.set(request.name, request.id);
        return to.send(request.id, "shmlink_service_v1", { kind: "registered", serviceId: 1 });
      case "dial":
        return this.#dial(to, request.id, request.name);
      default:
    }
  }

  #dial(to: ServerConnection, id: ObjectId, name: string): void {
    const service = this.#services.get(name);
    if (service === undefined)
      return to.send(id, "shmlink_channel_v1", { kind: "failed", code: 1, message: `No "${name}"` });
    const far = to.createServerObject("shmlink_channel_v1");
    this.#channels = [id, far];
    const doorbells = socketpair(constants.SOCK_STREAM);
    to.send(service, "shmlink_service_v1", { kind: "incoming", channel: far, pid: 1, uid: 2 });
    for (const [side, doorbell] of doorbells.entries()) {
      const channel = side === 0 ? id : far;
      to.send(channel, "shmlink_channel_v1", {
        kind: "map",
        channelId: 1,
        side,
        memfd: memfdWith(`ring ${side}`),
        doorbell,
      });
    }
  }

  #confirm(to: ServerConnection): void {
    this.#mapped += 1;
    if (this.#mapped < 2) return;
    for (const [side, channel] of this.#channels.entries()) {
      to.send(channel, "shmlink_channel_v1", { kind: "peer", memfd: memfdWith(`ring ${1 - side}`), pid: 1, uid: 2 });
    }
  }

  [Symbol.dispose](): void {
    this.#connection?.[Symbol.dispose]();
    this.#listener.close();
  }
}

function entry(entryKind: number, name: string) {
  return { kind: "entry", entryKind, entryId: 0, name, uid: 0, pid: 0, exe: "", details: "{}" } as const;
}

function memfdWith(text: string): OwnedFd {
  const fd = memfdCreate("libwayland-test");
  write(fd, new TextEncoder().encode(text));
  return fd;
}

/** A visit that hangs is a failure, and must not outlive the test run. */
const GIVE_UP_MS = 30_000;

type Visit = { readonly code: number | null; readonly lines: string[] };

/** Runs a C program to its end. */
async function start(path: string, args: readonly string[]): Promise<Visit> {
  const child = spawn(path, args, { stdio: ["ignore", "pipe", "inherit"], timeout: GIVE_UP_MS });
  let text = "";
  child.stdout.on("data", (chunk: Buffer) => {
    text += chunk.toString();
  });
  const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
  return { code, lines: text.trimEnd().split("\n") };
}

/** Runs client.c, giving `turn` the chance to serve it meanwhile. */
async function visit(path: string, mode: string, turn: () => void = () => undefined): Promise<Visit> {
  const visit = start(program, [path, mode]);
  let over = false;
  void visit.finally(() => {
    over = true;
  });
  while (!over) {
    turn();
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  return await visit;
}

requires.test(LIBWAYLAND, "libwayland-client goes through a whole visit of a ServerConnection", async () => {
  const path = join(directory, "tiny.sock");
  using server = new TinyServer(path);
  const { code, lines } = await visit(path, "ok", () => server.turn());
  expect(lines).toEqual([
    "global shmlink_manager_v1 version 1",
    "welcome uid 7 max_capacity 4294967295",
    "entry kind 5 name broker",
    "entry kind 0 name größer",
    "done",
    'channel failed 1 No "nobody"',
    "ids reused",
    "registered",
    "incoming",
    "map side 0",
    'memfd file "ring 0"',
    'doorbell socket ""',
    "map side 1",
    'memfd file "ring 1"',
    'doorbell socket ""',
    'peer file "ring 1"',
    'peer file "ring 0"',
    "end",
  ]);
  expect(code).toBe(0);
});

requires.test(LIBWAYLAND, "libwayland-client is told of a breach with interface, object and code", async () => {
  const path = join(directory, "breach.sock");
  using server = new TinyServer(path);
  const { code, lines } = await visit(path, "second-hello", () => server.turn());
  expect(lines.at(-1)).toBe("second hello failed: errno 71, shmlink_manager_v1@4 error 1"); // EPROTO
  expect(code).toBe(2);
});

requires.test(LIBWAYLAND, "libwayland-client lists, offers, dials and gets its rings from the broker", async () => {
  await using broker = new TestBroker();
  broker.connect().close();
  const { code, lines } = await visit(broker.socketPath, "ok");
  expect(lines[0]).toBe("global shmlink_manager_v1 version 2");
  expect(lines[1]).toStartWith(`welcome uid ${process.geteuid?.()} max_capacity `);
  expect(lines.slice(2, 4)).toEqual(["entry kind 5 name broker", "done"]);
  expect(lines[4]).toStartWith("channel failed 1 ");
  const rest = lines.slice(5).map((line) => line.replace(/ ".*"$/, ""));
  expect(rest.slice(0, 2)).toEqual(["ids reused", "registered"]);
  expect(rest.indexOf("incoming")).toBeLessThan(rest.indexOf("map side 1"));
  expect(rest.slice(2, -1).sort()).toEqual(
    [
      "incoming",
      "map side 0",
      "map side 1",
      ...["doorbell socket", "memfd file", "peer file"].flatMap((line) => [line, line]),
    ].sort(),
  );
  expect(rest.at(-1)).toBe("end");
  expect(code).toBe(0);
});

requires.test(LIBWAYLAND, "the broker tells libwayland-client of a second hello", async () => {
  await using broker = new TestBroker();
  broker.connect().close();
  const { code, lines } = await visit(broker.socketPath, "second-hello");
  expect(lines.at(-1)).toBe("second hello failed: errno 71, shmlink_manager_v1@4 error 1");
  expect(code).toBe(2);
});

requires.test(
  LIBWAYLAND,
  "a C program lists, passes descriptors on and takes them, and talks over a channel with us",
  async () => {
    const relay = buildLibwaylandProgram("relay", directory);
    await using broker = new TestBroker();
    using link = broker.connect({ wake: true });
    using service = link.listen("echo");
    const ended = start(relay, [broker.socketPath]);
    using delivery = await link.takeAsync("c-gift", { waitMs: -1 });
    const [gift] = delivery.fds;
    const path = `/proc/self/fd/${gift?.number}`;
    expect(delivery.items.map(({ type }) => type)).toEqual(["memfd"]);
    expect(readFileSync(path, "utf8")).toBe("from C");
    using offer = link.offer("ts-gift");
    using present = memfdWith("from TypeScript");
    offer.publish([present]);
    const channel = await service.acceptAsync();
    for await (const message of channel ?? []) await channel?.sendAsync(message.data);
    channel?.close();
    const { code, lines } = await ended;
    expect(lines).toEqual([
      "service echo",
      expect.stringMatching(/^refused 3 Cannot offer a descriptor as "c-gift": it is a socket of the broker/),
      "published 1",
      "taken 1",
      'fd memfd "from TypeScript"',
      "delivered 1",
      "echoed 1000",
      "end",
    ]);
    expect(code).toBe(0);
  },
);

/** Bytes of either side's ring: as channel.c has it, and another. */
const C_CAPACITY = 65_536;
const OUR_CAPACITY = 16_384;
const MESSAGES = 50;

/** What channel.c sends from a ring of `capacity` bytes: up to a whole record, one in two records, one longer than the ring. */
function lengthsFor(capacity: number): number[] {
  const longest = capacity / 2 - 8;
  const lengths = [0, 1, 7, 8, 9, 1000, longest - 1, longest, longest + 1, 3 * capacity + 5];
  return Array.from({ length: MESSAGES }, (_, index) => lengths[index % lengths.length] ?? 0);
}

/** As note() of channel.c: the boundaries count, too. */
function note(hash: Hash, { type, data }: Pick<Message, "type" | "data">): void {
  hash.update(new Uint8Array(Uint32Array.of(type, data.length).buffer)).update(data);
}

/** Answers each message of channel.c with one of our own, and closes. @returns what was under way */
async function converse(channel: Channel): Promise<{ received: string; sent: string; lengths: number[] }> {
  const [received, sent] = [createHash("sha256"), createHash("sha256")];
  const lengths: number[] = [];
  for (const [index, length] of lengthsFor(OUR_CAPACITY).entries()) {
    const message = await channel.receiveAsync();
    if (message === undefined) break;
    note(received, message);
    lengths.push(message.data.length);
    const answer = { type: 1000 + index, data: Uint8Array.from({ length }, (_, at) => at * 11 + index) };
    note(sent, answer);
    await channel.sendAsync(answer.data, { type: answer.type });
  }
  channel.close();
  return { received: received.digest("hex"), sent: sent.digest("hex"), lengths };
}

for (const how of ["dial", "listen"] as const) {
  requires.test(LIBWAYLAND, `a C program on shmlink.h ${how}s with libwayland-client, and talks with us`, async () => {
    writeFileSync(join(directory, "readme.h"), README_EXAMPLE);
    const program = buildLibwaylandProgram("channel", directory);
    await using broker = new TestBroker();
    using link = broker.connect({ wake: true });
    using service = how === "dial" ? link.listen("met", { capacity: OUR_CAPACITY }) : undefined;
    const visit = start(program, [broker.socketPath, how, "met"]);
    const channel = await (service?.acceptAsync() ?? link.dialAsync("met", { capacity: OUR_CAPACITY, waitMs: -1 }));
    if (channel === undefined) throw new Error("Nobody dialled");
    const { received, sent, lengths } = await converse(channel);
    const { code, lines } = await visit;
    expect(lines).toEqual([
      `sent ${received}`,
      `received ${sent}`,
      "receive: the peer has finished",
      "send: the peer has gone",
      "end",
    ]);
    expect(lengths).toEqual(lengthsFor(C_CAPACITY));
    expect(code).toBe(0);
  });
}

/** Services and channels through a real broker: set-up, refusals, peers that go away, listings. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { constants, kill } from "../../ffi/mod.ts";
import type { FailureError } from "../../lib/errors.ts";
import { TestBroker, waitUntil } from "../helpers/broker.ts";
import { message, RawPeer, text } from "../helpers/raw-peer.ts";

let broker: TestBroker;

beforeEach(() => {
  broker = new TestBroker("[limits]\nmaxChannelsPerUser = 6\n");
});

afterEach(async () => {
  await broker[Symbol.asyncDispose]();
});

function failureOf(act: () => unknown): FailureError {
  try {
    act();
  } catch (error) {
    return error as FailureError;
  }
  throw new Error("Nothing was thrown");
}

test("a channel carries messages both ways, and each end knows the other", async () => {
  using server = broker.connect({ name: "server", wake: true });
  using client = broker.connect({ name: "client", wake: true });
  using service = server.listen("echo", { capacity: 8192 });
  const [there, here] = await Promise.all([service.acceptAsync(), client.dialAsync("echo", { capacity: 4096 })]);
  using near = here;
  using far = there;
  near.send(new Uint8Array([1, 2, 3]));
  expect((await far?.receiveAsync())?.data).toEqual(new Uint8Array([1, 2, 3]));
  far?.send(new Uint8Array([4]));
  expect((await near.receiveAsync())?.data).toEqual(new Uint8Array([4]));
  expect([near.peerPid, near.peerUid]).toEqual([process.pid, process.getuid?.()]);
  for (const end of [near, far]) expect(end?.tryReceive()).toBeUndefined(); // who finds nothing says how far it got
  const [entry] = client.list("echo").filter(({ kind }) => kind === "channel");
  expect(entry?.details).toMatchObject({
    state: "open",
    capacity: { toService: 4096, toDialler: 8192 },
    seals: ["shrink", "grow", "future-write", "seal"],
    toService: { bytes: 3, messages: 1, fill: 0 },
    toDialler: { bytes: 1, messages: 1, fill: 0 },
  });
});

test("a name that nobody offers yet is waited for, as long as was said", async () => {
  using server = broker.connect({ wake: true });
  using client = broker.connect({ wake: true });
  const refused = await client.dialAsync("later").catch((error: unknown) => error as FailureError);
  expect(refused).toMatchObject({ code: "unknown-name" });
  expect(failureOf(() => client.dial("later", { waitMs: 30 })).code).toBe("unknown-name");
  for (const wrong of [Number.NaN, "abc" as unknown as number]) {
    expect(() => client.dial("later", { waitMs: wrong })).toThrow(TypeError);
    expect(() => client.dial("later", { timeoutMs: wrong })).toThrow(TypeError);
    expect(await client.dialAsync("later", { waitMs: wrong }).catch((error: unknown) => error)).toBeInstanceOf(
      TypeError,
    );
  }
  const dialled = client.dialAsync("later", { waitMs: -1 });
  await new Promise((resolve) => setTimeout(resolve, 60)); // it has asked by now
  using service = server.listen("later");
  const [far, near] = await Promise.all([service.acceptAsync(), dialled]);
  near.send(new Uint8Array([7]));
  expect((await far?.receiveAsync())?.data).toEqual(new Uint8Array([7]));
  near.close();
  far?.close();
});

test("each end has the options that it was opened with, and what it drops is listed", async () => {
  using server = broker.connect({ wake: true });
  using client = broker.connect({ wake: true });
  using service = server.listen("feed", { capacity: 4096, trust: "trusted", whenBehind: "drop-old" });
  const dialled = client.dialAsync("feed", { capacity: 4096, whenFull: "drop-new" });
  const [there, near] = await Promise.all([service.acceptAsync(), dialled]);
  if (there === undefined) throw new Error("Nobody dialled");
  const sent = Array.from({ length: 80 }, () => near.send(new Uint8Array(56)));
  expect(sent.filter((each) => each)).toHaveLength(64);
  expect(there.peek()).toHaveLength(56);
  expect(() => near.peek()).toThrow(TypeError);
  const [entry] = client.list("feed").filter(({ kind }) => kind === "channel");
  expect(entry?.details).toMatchObject({ toService: { messages: 64, dropped: 16, skipped: 48 } });
  there.close();
  near.close();
});

test("dial() of an unknown name says so at once", () => {
  using link = broker.connect();
  const error = failureOf(() => link.dial("nobody"));
  expect(error.code).toBe("unknown-name");
  expect(error.message).toContain('"nobody"');
});

test("listen() on a name in use names the holder, and the name is free when the holder leaves", async () => {
  const holder = broker.connect();
  using link = broker.connect();
  holder.listen("taken");
  const error = failureOf(() => link.listen("taken"));
  expect(error.code).toBe("name-in-use");
  expect(error.message).toContain(String(process.pid));
  holder.close();
  await waitUntil(() => link.list("taken").length === 0, "the name to be free");
  link.listen("taken");
});

test("a channel disappears from listings when one end closes it", async () => {
  using link = broker.connect({ wake: true });
  using service = link.listen("short");
  using other = broker.connect({ wake: true });
  const [far, near] = await Promise.all([service.acceptAsync(), other.dialAsync("short")]);
  near.close();
  await waitUntil(() => !link.list().some(({ kind }) => kind === "channel"), "the channel to go");
  expect(await far?.receiveAsync()).toBeUndefined();
  far?.close();
});

test("a channel that ended is still told about to who asks for it, and to nobody else", async () => {
  using link = broker.connect({ wake: true });
  const service = link.listen("over");
  using other = broker.connect({ wake: true });
  const [far, near] = await Promise.all([service.acceptAsync(), other.dialAsync("over")]);
  near.send(new Uint8Array([1, 2]));
  expect(far?.tryReceive()?.data).toEqual(new Uint8Array([1, 2]));
  near.close();
  far?.close();
  service.close();
  await waitUntil(() => link.list("over")[0]?.kind === "channel", "the channel to be history");
  expect(link.list("over")).toMatchObject([
    { name: "over", details: { state: "ended", toService: { bytes: 2, messages: 1 } } },
  ]);
  expect(link.list()).toMatchObject([{ kind: "broker" }]);
  expect(link.list("never")).toEqual([]);
});

test("a limit on channels refuses the next one and spares those that are up", async () => {
  using link = broker.connect({ wake: true });
  using service = link.listen("many");
  using other = broker.connect({ wake: true });
  const open = [];
  for (let count = 0; count < 3; count++) {
    open.push(...(await Promise.all([service.acceptAsync(), other.dialAsync("many")])));
  }
  const refusal = await other.dialAsync("many").catch((error: unknown) => error as FailureError);
  expect(refusal).toMatchObject({ code: "quota" });
  const [far, near] = open;
  near?.send(new Uint8Array([9]));
  expect((await far?.receiveAsync())?.data).toEqual(new Uint8Array([9]));
  for (const channel of open) channel?.close();
  await waitUntil(() => !link.list().some(({ kind }) => kind === "channel"), "the quota to come back");
  const again = await Promise.all([service.acceptAsync(), other.dialAsync("many")]);
  for (const channel of again) channel?.close();
});

test("a dialler whose service vanishes during the set-up is told", () => {
  using service = new RawPeer(broker.connect({ name: "starter" }) && broker.socketPath);
  service.greet();
  service.send(message(3, 1, 4, ...text("mute"), 0));
  using dialler = new RawPeer(broker.socketPath);
  dialler.greet();
  dialler.send(message(3, 2, 4, ...text("mute"), 0));
  while (service.received.length < 2) service.next();
  service.fd.close();
  for (;;) {
    const event = dialler.next();
    if (event?.sender !== 4 || event.opcode !== 2) continue; // channel.failed
    expect(event.body.getUint32(0, true)).toBe(7); // refused
    break;
  }
});

test("channels go on when the broker is killed", async () => {
  using server = broker.connect({ wake: true });
  using client = broker.connect({ wake: true });
  using service = server.listen("lasting");
  const [far, near] = await Promise.all([service.acceptAsync(), client.dialAsync("lasting")]);
  kill(broker.pid, constants.SIGKILL);
  await waitUntil(() => client.dispatch() === "ended", "the connection to end");
  near.send(new Uint8Array([5]));
  expect((await far?.receiveAsync())?.data).toEqual(new Uint8Array([5]));
  near.close();
  expect(await far?.receiveAsync()).toBeUndefined();
  far?.close();
});

test("a ring larger than its reader takes is refused to both: dial says so, and the service goes on", async () => {
  await using own = new TestBroker();
  using link = own.connect({ wake: true });
  using service = link.listen("x", { capacity: 8192, maxPeerCapacity: 4096 });
  const accepted = service.acceptAsync();
  await expect(link.dialAsync("x", { capacity: 4096, maxPeerCapacity: 4096 })).rejects.toThrow(
    "the other side's ring has 8192 bytes, maxPeerCapacity is 4096",
  );
  (await accepted)?.close();
  using large = await link.dialAsync("x", { capacity: 8192 });
  await large.receiveAsync().catch(() => undefined); // nobody took it
  const waiting = service.acceptAsync();
  using near = await link.dialAsync("x", { capacity: 4096 });
  using far = await waiting;
  near.send(new Uint8Array(3));
  expect((await far?.receiveAsync())?.data.length).toBe(3);
});

test("what is no name or descriptor is refused before the broker is asked, and the connection goes on", async () => {
  using link = broker.connect({ wake: true });
  using offer = link.offer("kept");
  using minted = link.mint([{ rights: ["dial"], name: "x" }]);
  for (const wrong of [null, undefined, 5, "5"] as never[]) {
    const calls: (() => unknown)[] = [
      () => offer.publish([wrong]),
      () => link.createContext({ engine: "e", app: "a", instance: "1", listener: wrong, closeFd: wrong }),
    ];
    if (typeof wrong !== "string")
      calls.push(
        () => link.listen(wrong),
        () => link.dial(wrong),
        () => link.offer(wrong),
        () => link.take(wrong),
        () => link.mint([{ rights: ["dial"], name: wrong }]),
        () => link.createContext({ engine: wrong, app: "a", instance: "1", listener: wrong, closeFd: wrong }),
      );
    if (typeof wrong === "number" || wrong === null)
      calls.push(
        () => link.list(wrong),
        () => minted.revoke(["dial"], wrong),
      );
    for (const call of calls) expect(call).toThrow(/^Cannot use ".*" as .*: (a string|an object) is needed/);
  }
  expect(link.list("kept")).toHaveLength(1);
});

test("listen() and dial() refuse an option that there is not before they ask the broker, and go on", async () => {
  using link = broker.connect({ wake: true });
  const wrong: Record<string, unknown>[] = [
    { capacity: "8192" },
    { capacity: Number.NaN },
    { direction: "recieve" },
    { trust: "yes" },
    { spinUs: -5 },
    { whenFull: "drop-newest" },
  ];
  for (const options of wrong) {
    expect(() => link.listen("x", options)).toThrow(TypeError);
    expect(() => link.dial("x", options)).toThrow(TypeError);
    await expect(link.dialAsync("x", { ...options, waitMs: -1 })).rejects.toThrow(TypeError);
  }
  expect(() => link.listen("x", { capacity: 5000 })).toThrow(/power of two/);
  expect(link.list("x")).toEqual([]);
  using service = link.listen("x", {
    capacity: 8192,
    direction: "both",
    trust: "strict",
    spinUs: 0,
    whenFull: "block",
  });
  expect(service.failure).toBeUndefined();
});

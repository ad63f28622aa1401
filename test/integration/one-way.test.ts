/** One-way channels through a real broker: by grant, by wish, and what a process has then; `inspect` and `ls` show it. */
import { expect, test } from "bun:test";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import type { Channel } from "../../lib/channel/channel.ts";
import { BrokerLink, type DialOptions, type ListenOptions } from "../../lib/client/broker-link.ts";
import type { GrantSpec } from "../../lib/client/grant.ts";
import { FailureError } from "../../lib/errors.ts";
import type { Service } from "../../lib/mod.ts";
import { TestBroker, waitUntil } from "../helpers/broker.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { enter, handDown } from "../helpers/handed-down.ts";

expectNoFdLeaks();

const BYTES: Uint8Array = new TextEncoder().encode("hello");

async function connect(
  dialler: BrokerLink,
  service: Service,
  options: DialOptions = {},
): Promise<readonly [Channel, Channel]> {
  const [near, far] = await Promise.all([dialler.dialAsync(service.name, options), service.acceptAsync()]);
  if (far === undefined) throw new Error("Nothing was accepted");
  return [near, far];
}

/** Ring files that this process has mapped, whether it can write to them, and their sizes. */
function mappings(): string[] {
  return readFileSync("/proc/self/maps", "utf8")
    .split("\n")
    .flatMap((line) => {
      const match = /^(\w+)-(\w+) .(.).. .* \/memfd:shmlink:/.exec(line);
      if (match === null) return [];
      return `${match[3]} ${Number.parseInt(match[2] ?? "", 16) - Number.parseInt(match[1] ?? "", 16)}`;
    })
    .sort();
}

test("a send-only grant makes one-way channels: the dialler has nothing by which a message could come", async () => {
  await using broker = new TestBroker();
  using parent = broker.connect({ wake: true });
  using service = parent.listen("log", { capacity: 65536 });
  using holder = enter(broker, parent, [{ rights: ["dial", "send"], name: "log" }]);
  const [near, far] = await connect(holder, service, { capacity: 8192 });
  using _n = near;
  using _f = far;
  expect([near.direction, far.direction]).toEqual(["send", "receive"]);
  near.send(BYTES);
  expect(far.receive()?.data).toEqual(new Uint8Array(BYTES));
  expect(() => far.send(BYTES)).toThrow(FailureError);
  expect(() => near.receive()).toThrow(FailureError);
  // Both sides are in this process: side 1, the service's, is its header and its positions and nothing else.
  expect(mappings()).toEqual(["- 16384", "- 8192", "w 16384", "w 8192"]);
});

const CASES: readonly (readonly [string, GrantSpec | undefined, DialOptions, ListenOptions, string])[] = [
  ["a receive-only grant", { rights: ["dial", "receive"], name: "x" }, {}, {}, "receive"],
  ["a grant that names both", { rights: ["dial", "send", "receive"], name: "x" }, {}, {}, "both"],
  ["a grant that names none", { rights: ["dial"], name: "x" }, {}, {}, "both"],
  ["a dialler that wants to send", undefined, { direction: "send" }, {}, "send"],
  ["a dialler that wants to receive", undefined, { direction: "receive" }, {}, "receive"],
  ["a service that wants to send", undefined, {}, { direction: "send" }, "receive"],
  ["a service that wants to receive", undefined, { direction: "both" }, { direction: "receive" }, "send"],
  ["a wish within a grant", { rights: ["dial"], name: "x" }, { direction: "send" }, {}, "send"],
];

for (const [name, grant, dialOptions, listenOptions, direction] of CASES) {
  test(`${name} makes a channel whose dialler does "${direction}", and inspect says so`, async () => {
    await using broker = new TestBroker();
    using parent = broker.connect({ wake: true });
    using service = parent.listen("x", listenOptions);
    using holder = grant === undefined ? broker.connect({ wake: true }) : enter(broker, parent, [grant]);
    const [near, far] = await connect(holder, service, dialOptions);
    using _n = near;
    using _f = far;
    const wanted = { both: "both", send: "receive", receive: "send" }[direction];
    expect([near.direction as string, far.direction as string]).toEqual([direction, wanted ?? ""]);
    const { stdout } = await broker.run(["inspect", String(near.channelId), "--json"]);
    const shown = { both: "both", send: "to-service", receive: "to-dialler" }[direction];
    const megabyte = 1 << 20;
    expect(JSON.parse(stdout)).toMatchObject({
      state: "open",
      direction: shown,
      capacity: {
        toService: direction === "receive" ? 0 : megabyte,
        toDialler: direction === "send" ? 0 : megabyte,
      },
      seals: ["shrink", "grow", "future-write", "seal"],
    });
  });
}

test("a channel that could carry nothing is refused, and a service that was granted one direction listens with it", async () => {
  await using broker = new TestBroker();
  using parent = broker.connect({ wake: true });
  using holder = enter(broker, parent, [{ rights: ["listen", "receive"], name: "sink" }]);
  using service = holder.listen("sink");
  expect(() => parent.dial("sink", { direction: "receive" })).toThrow(
    /no direction is left, the dialler may only receive and the service may only receive/,
  );
  expect(broker.log).toContain('Refused to dial "sink": no direction is left, the dialler may only receive');
  const [near, far] = await connect(parent, service);
  using _n = near;
  using _f = far;
  expect([near.direction, far.direction]).toEqual(["send", "receive"]);
});

test("a right to receive that is revoked is gone from the next channel on", async () => {
  await using broker = new TestBroker();
  using parent = broker.connect({ wake: true });
  using service = parent.listen("db");
  using minted = parent.mint([{ rights: ["dial"], name: "db" }]);
  const env = handDown(broker, minted);
  using holder = BrokerLink.connect({ name: "holder", wake: true, env });
  const before = await connect(holder, service);
  minted.revoke(["receive"]);
  const after = await connect(holder, service);
  expect([before[0].direction, after[0].direction]).toEqual(["both", "send"]);
  for (const channel of [...before, ...after]) channel.close();
});

test("dial and listen take --direction: bytes go one way, stdin and stdout of the other way are left alone", async () => {
  await using broker = new TestBroker();
  broker.connect().close();
  const [listened, dialled] = await Promise.all([
    broker.run(["listen", "feed", "--direction=send"], "to the dialler"),
    broker.run(["dial", "feed"], "nobody reads this"),
  ]);
  expect([listened.code, listened.stdout, dialled.code, dialled.stdout]).toEqual([0, "", 0, "to the dialler"]);
  const said = 'shmlink: nothing can be sent in this channel to "feed": stdin is not read\n';
  expect([listened.stderr, dialled.stderr]).toEqual(["", said]);
  const wrong = await broker.run(["dial", "feed", "--direction=back"]);
  expect(wrong).toMatchObject({ code: 2, stderr: expect.stringContaining('Cannot use --direction "back"') });
});

test("a program under run --grant=dial,send has no ring that somebody else could write messages into", async () => {
  await using broker = new TestBroker();
  using parent = broker.connect({ wake: true });
  using service = parent.listen("log");
  const entry = new URL("../../bin/shmlink.ts", import.meta.url).pathname;
  const child = Bun.spawn(
    [process.execPath, entry, "run", "--grant=dial,send:log", "--", process.execPath, entry, "dial", "log"],
    {
      env: broker.env,
      stdin: "pipe",
      stdout: "pipe",
      stderr: "inherit",
    },
  );
  using channel = await service.acceptAsync();
  if (channel === undefined) throw new Error("Nothing was accepted");
  expect(channel.direction).toBe("receive");
  const dialler = parent.list().find(({ id }) => id === channel.channelId);
  const folder = `/proc/${childOf(Number(dialler?.pid))}`;
  const ringsOf = (): string[] =>
    readFileSync(`${folder}/maps`, "utf8")
      .split("\n")
      .filter((line) => line.includes("memfd:shmlink:"));
  await waitUntil(() => ringsOf().length >= 2, "the dialler to have its channel whole");
  const rings = ringsOf();
  const sizes = rings.map((line) => {
    const [, from = "", to = "", mode = ""] = /^(\w+)-(\w+) (\S+) /.exec(line) ?? [];
    return `${mode} ${Number.parseInt(to, 16) - Number.parseInt(from, 16)}`;
  });
  expect(sizes.sort()).toEqual(["r--s 8192", `rw-s ${8192 + (1 << 20)}`]);
  await waitUntil(
    () => !linksOf(folder).some((link) => link.includes("memfd:shmlink")),
    "its descriptors to be closed",
  );
  child.stdin.write("hello");
  await child.stdin.end();
  expect(new TextDecoder().decode((await channel.readBytesAsync(100)) ?? new Uint8Array())).toBe("hello");
  expect(await channel.readBytesAsync(100)).toBeUndefined();
  channel.close();
  expect(await child.exited).toBe(0);
});

/** The process that has the ring: the one that was asked about, or the one that it has started. */
function childOf(pid: number): number {
  const hasRing = (one: number): boolean => readFileSync(`/proc/${one}/maps`, "utf8").includes("memfd:shmlink:");
  if (hasRing(pid)) return pid;
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ").map(Number);
  const found = children.map((child) => (child > 0 ? childOf(child) : 0)).find((child) => child > 0);
  if (found === undefined) throw new Error(`Neither process ${pid} nor a child of it has a ring`);
  return found;
}

/** What the descriptors of a process lead to. */
function linksOf(folder: string): string[] {
  return readdirSync(`${folder}/fd`).flatMap((fd) => {
    try {
      return readlinkSync(`${folder}/fd/${fd}`);
    } catch {
      return []; // closed meanwhile
    }
  });
}

/** How much of a flood the broker handles before everybody else has a turn: counted, not timed. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { recvmsg } from "../../ffi/mod.ts";
import { Broker } from "../../lib/broker/broker.ts";
import { builtInConfig } from "../../lib/config/schema.ts";
import { SILENT } from "../../lib/log.ts";
import { INTERFACES } from "../../lib/protocol/shmlink-v1.gen.ts";
import { listenOn } from "../../lib/transport/listen.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { message, RawPeer, text } from "../helpers/raw-peer.ts";
import { makeRuntimeDir } from "../helpers/runtime-dir.ts";

expectNoFdLeaks();

/** Whose rate nobody here reaches. */
function brokerAt(path: string): Broker {
  const limits = { ...builtInConfig.limits, maxMessagesPerSecond: 2 ** 24 };
  return new Broker({ listeners: [listenOn(path)], config: { ...builtInConfig, limits }, logger: SILENT, env: {} });
}

/** A sync is answered by done and delete_id: 24 bytes. */
function answers(peer: RawPeer): number {
  return (recvmsg(peer.fd)?.bytes.length ?? 0) / 24;
}

function syncs(count: number): Uint8Array {
  return new Uint8Array(Array.from({ length: count }, () => [...message(1, 0, 0x10)]).flat());
}

test("who asks a few things at once has them in one turn; who floods has eight a turn at most, and others one each time", () => {
  using directory = makeRuntimeDir();
  const path = join(directory.path, "broker.sock");
  using broker = brokerAt(path);
  using flood = new RawPeer(path);
  using other = new RawPeer(path);
  while (broker.sessionCount < 2) broker.turn(1000);
  other.send(syncs(30));
  broker.turn(1000);
  expect(answers(other)).toBe(30);
  flood.send(syncs(400));
  broker.turn(1000);
  expect(answers(flood)).toBe(32); // at once, and then it is a flood
  for (let left = 400 - 32; left > 0; ) {
    other.send(syncs(1));
    broker.turn(1000);
    expect(answers(other)).toBe(1);
    const handled = answers(flood); // none while the broker pauses for the others
    expect([0, 8]).toContain(handled);
    left -= handled;
  }
});

test("a refusal counts as four requests, so who floods with what is refused has two a turn", () => {
  using directory = makeRuntimeDir();
  const path = join(directory.path, "broker.sock");
  using broker = brokerAt(path);
  using flood = new RawPeer(path);
  while (broker.sessionCount < 1) broker.turn(1000);
  flood.greet();
  broker.turn(1000);
  recvmsg(flood.fd);
  const take = INTERFACES.shmlink_manager_v1.requests.findIndex(({ name }) => name === "take");
  const requests = Array.from({ length: 40 }, (_, index) => [...message(3, take, 4 + index, ...text("nobody"), 0)]);
  flood.send(new Uint8Array(requests.flat()));
  /** Of the next turn in which there are any. */
  const events = (): number => {
    let received = null;
    while (received === null) {
      broker.turn(1000);
      received = recvmsg(flood.fd);
    }
    const { bytes } = received;
    const view = new DataView(bytes.buffer);
    let count = 0;
    for (let at = 0; at < bytes.length; at += view.getUint32(at + 4, true) >>> 16) count += 1;
    return count;
  };
  expect([8, 8 + 2]).toContain(events()); // as a burst, and perhaps at once, but then as a flood
  expect([events(), events(), events(), events()]).toEqual([2, 2, 2, 2]);
});

/** How much of a flood the broker handles before everybody else has a turn: counted, not timed. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { recvmsg } from "../../ffi/mod.ts";
import { Broker } from "../../lib/broker/broker.ts";
import { builtInConfig } from "../../lib/config/schema.ts";
import { SILENT } from "../../lib/log.ts";
import { listenOn } from "../../lib/transport/listen.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { message, RawPeer } from "../helpers/raw-peer.ts";
import { makeRuntimeDir } from "../helpers/runtime-dir.ts";

expectNoFdLeaks();

/** A sync is answered by done and delete_id: 24 bytes. */
function answers(peer: RawPeer): number {
  return (recvmsg(peer.fd)?.bytes.length ?? 0) / 24;
}

function syncs(count: number): Uint8Array {
  return new Uint8Array(Array.from({ length: count }, () => [...message(1, 0, 0x10)]).flat());
}

test("who asks a few things at once has them in one turn; who floods has eight a turn, and others one each time", () => {
  using directory = makeRuntimeDir();
  const path = join(directory.path, "broker.sock");
  const limits = { ...builtInConfig.limits, maxMessagesPerSecond: 2 ** 24 };
  using broker = new Broker({
    listeners: [listenOn(path)],
    config: { ...builtInConfig, limits },
    logger: SILENT,
    env: {},
  });
  using flood = new RawPeer(path);
  using other = new RawPeer(path);
  while (broker.sessionCount < 2) broker.turn(1000);
  other.send(syncs(30));
  broker.turn(1000);
  expect(answers(other)).toBe(30);
  flood.send(syncs(400));
  broker.turn(1000);
  expect(answers(flood)).toBe(40); // 32 at once, and then it is a flood
  for (let turn = 0; turn < 20; turn++) {
    other.send(syncs(1));
    broker.turn(1000);
    expect([answers(other), answers(flood)]).toEqual([1, 8]);
  }
});

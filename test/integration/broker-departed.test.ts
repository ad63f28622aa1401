/** Who leaves while the broker has not come to all that he had said: his place is free, and he is not heard for ever. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { Broker } from "../../lib/broker/broker.ts";
import { builtInConfig } from "../../lib/config/schema.ts";
import { SILENT } from "../../lib/log.ts";
import { listenOn } from "../../lib/transport/listen.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { message, RawPeer } from "../helpers/raw-peer.ts";
import { makeRuntimeDir } from "../helpers/runtime-dir.ts";

expectNoFdLeaks();

const SYNC = 16;

/** As much as a flood leaves behind. */
function syncs(count: number): Uint8Array {
  return new Uint8Array(Array.from({ length: count }, (_, index) => [...message(1, 0, SYNC + index)]).flat());
}

function brokerAt(path: string, limits: Partial<(typeof builtInConfig)["limits"]>): Broker {
  const config = { ...builtInConfig, limits: { ...builtInConfig.limits, ...limits } };
  return new Broker({ listeners: [listenOn(path)], config, logger: SILENT, env: {} });
}

/** Connects, says much, is let in, and leaves. */
function leaveMuchUnheard(broker: Broker, path: string, count: number): void {
  using stack = new DisposableStack();
  for (let index = 0; index < count; index++) {
    const peer = stack.use(new RawPeer(path));
    while (broker.sessionCount <= index) broker.turn(1000);
    peer.send(syncs(4000));
    broker.turn(1000);
  }
}

test("who connects has the place of somebody of his user who has left, whatever that one had said before", () => {
  using directory = makeRuntimeDir();
  const path = join(directory.path, "broker.sock");
  // Two seconds for what each of the four has left behind.
  using broker = brokerAt(path, { maxSessionsPerUser: 4, maxMessagesPerSecond: 2000 });
  leaveMuchUnheard(broker, path, 4);
  expect(broker.sessionCount).toBe(4);
  using peer = new RawPeer(path);
  peer.send(message(1, 0, SYNC));
  for (let isAnswered = false; !isAnswered; ) {
    broker.turn(1000);
    try {
      expect(peer.next(0)?.sender).toBe(SYNC); // and no error
      isAnswered = true;
    } catch (error) {
      if (!(error instanceof Error && error.message === "The broker sent nothing")) throw error;
    }
  }
  while (broker.sessionCount > 1) broker.turn(1000);
});

test("of who has left a few hundred requests are handled, and not the thousands that he had sent", () => {
  using directory = makeRuntimeDir();
  const path = join(directory.path, "broker.sock");
  using broker = brokerAt(path, { maxMessagesPerSecond: 2 ** 24 });
  leaveMuchUnheard(broker, path, 1);
  let turns = 0;
  for (; broker.sessionCount > 0; turns++) broker.turn(1000);
  expect(turns).toBeGreaterThan(5); // what is sent last is heard
  expect(turns).toBeLessThan(100); // eight a turn, for it is a flood
});

/** What others notice of many connections of which none floods: turns of the loop are counted, not times. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { pipe, recvmsg } from "../../ffi/mod.ts";
import { Broker } from "../../lib/broker/broker.ts";
import { builtInConfig } from "../../lib/config/schema.ts";
import { SILENT } from "../../lib/log.ts";
import type { Rule } from "../../lib/policy/types.ts";
import { INTERFACES } from "../../lib/protocol/shmlink-v1.gen.ts";
import { listenOn } from "../../lib/transport/listen.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { message, RawPeer, text } from "../helpers/raw-peer.ts";
import { makeRuntimeDir } from "../helpers/runtime-dir.ts";

expectNoFdLeaks();

const INSIDE: Rule = {
  name: "inside",
  effect: "allow",
  where: "test",
  criteria: { engine: ["e"], action: ["connect"] },
};
const CREATE_CONTEXT = INTERFACES.shmlink_manager_v1.requests.findIndex(({ name }) => name === "create_context");
const CROWD = 16;
/** One less than makes a flood of a connection. */
const EACH = 31;

/** Whose rate nobody here reaches, with a quarter of a millisecond for everything it does. */
function brokerAt(path: string): Broker {
  const limits = { ...builtInConfig.limits, maxMessagesPerSecond: 2 ** 24 };
  const config = { ...builtInConfig, limits, rules: [...builtInConfig.rules, INSIDE] };
  let nowMs = 0;
  const now = (): number => {
    nowMs += 0.25;
    return nowMs;
  };
  return new Broker({ listeners: [listenOn(path)], config, logger: SILENT, env: {}, now });
}

/** Lets whoever connects there be of a context. @param engine  greeted */
function openContext(engine: RawPeer, path: string): Disposable {
  using listener = listenOn(path);
  const { reader, writer } = pipe();
  using _r = reader;
  engine.send(message(3, CREATE_CONTEXT, 4, ...text("e"), ...text("a"), ...text("1")), [listener, reader]);
  return { [Symbol.dispose]: () => writer.close() };
}

/** A sync is answered by done and delete_id: 24 bytes. */
function answers(peer: RawPeer): number {
  return (recvmsg(peer.fd)?.bytes.length ?? 0) / 24;
}

function syncs(count: number): Uint8Array {
  return new Uint8Array(Array.from({ length: count }, () => [...message(1, 0, 0x10)]).flat());
}

/** One that asks for some things, waits for the answers, and asks again. */
class Member extends RawPeer {
  #left = 0;

  ask(): void {
    if (this.#left > 0) return;
    this.send(syncs(EACH));
    this.#left = EACH;
  }

  /** @returns how many came */
  hear(): number {
    const count = answers(this);
    this.#left -= count;
    return count;
  }
}

/** Everybody asks, and the broker has a turn. @returns how many of the crowd's requests it has answered */
function turn(broker: Broker, crowd: readonly Member[]): number {
  for (const member of crowd) member.ask();
  broker.turn(1000);
  return crowd.reduce((sum, member) => sum + member.hear(), 0);
}

test("a crowd of which none floods has less than a slice a turn while somebody else speaks, and everything when nobody does", () => {
  using directory = makeRuntimeDir();
  using broker = brokerAt(join(directory.path, "broker.sock"));
  using engine = new RawPeer(join(directory.path, "broker.sock"));
  engine.greet();
  using context = openContext(engine, join(directory.path, "context.sock"));
  void context;
  using other = new RawPeer(join(directory.path, "broker.sock"));
  other.send(syncs(1));
  while (answers(other) === 0) broker.turn(1000);

  using stack = new DisposableStack();
  const crowd = Array.from({ length: CROWD }, () => stack.use(new Member(join(directory.path, "context.sock"))));
  while (broker.sessionCount < CROWD + 2) broker.turn(1000);
  for (let round = 0; round < 20; round++) expect(turn(broker, crowd)).toBeGreaterThan(0); // nobody else speaks
  for (let round = 0; round < 5; round++) {
    other.send(syncs(1));
    turn(broker, crowd);
    expect(answers(other)).toBe(1);
  }
  const handled = Array.from({ length: 100 }, () => {
    other.send(syncs(1));
    const count = turn(broker, crowd);
    expect(answers(other)).toBe(1);
    return count;
  });
  expect(handled.reduce((sum, count) => sum + count)).toBeLessThan(100 * 8);

  let all = 0; // and when the other one is silent, they are not held up any longer
  for (let round = 0; round < 2000 && all < CROWD * EACH; round++) all = Math.max(all, turn(broker, crowd));
  expect(all).toBe(CROWD * EACH);
});

/** Contexts as a container engine makes them: a listening socket and a close descriptor over the protocol. */
import { expect, test } from "bun:test";
import {
  bind,
  connect,
  constants,
  listen,
  memfdCreate,
  type OwnedFd,
  pipe,
  pollNow,
  setNonBlocking,
  socket,
  socketpair,
  unixAddress,
} from "../../ffi/mod.ts";
import type { BrokerLink } from "../../lib/client/broker-link.ts";
import { TestBroker, waitUntil } from "../helpers/broker.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";

expectNoFdLeaks();

const RULES = '[[allow]]\nengine = "test"\naction = ["connect", "list", "context"]\n';

function listenerAt(path: string): OwnedFd {
  const fd = socket(constants.AF_UNIX, constants.SOCK_STREAM | constants.SOCK_NONBLOCK);
  bind(fd, unixAddress(path), path);
  listen(fd, 5);
  return fd;
}

function contextsOf(link: BrokerLink): string[] {
  return link.list().flatMap(({ kind, name }) => (kind === "context" ? name : []));
}

const PAIRS: Readonly<Record<string, () => readonly [lent: OwnedFd, held: OwnedFd]>> = {
  "a pipe": () => {
    const { reader, writer } = pipe();
    return [reader, writer];
  },
  "a socket": () => socketpair(constants.SOCK_STREAM),
};

for (const [name, make] of Object.entries(PAIRS)) {
  test(`a context ends when the other end of ${name} hangs up: whoever is inside stays, nobody else comes in`, async () => {
    await using broker = new TestBroker(RULES);
    using engine = broker.connect();
    const path = `${broker.directory}/inside.sock`;
    using listener = listenerAt(path);
    const [lent, held] = make();
    {
      using closeFd = lent;
      const id = engine.createContext({ engine: "test", app: "shop", instance: "1", listener, closeFd });
      expect(engine.list(String(id))).toMatchObject([{ kind: "context", name: "test/shop/1" }]);
    }
    listener.close(); // the broker's from here on
    using inside = broker.connect({ env: { ...broker.env, SHMLINK_SOCKET: path }, start: false });
    expect(contextsOf(inside)).toEqual(["test/shop/1"]);
    held.close();
    await waitUntil(() => contextsOf(engine).length === 0, "the context to end");
    expect(contextsOf(inside)).toEqual([]);
    expect(() => broker.connect({ env: { ...broker.env, SHMLINK_SOCKET: path }, start: false })).toThrow();
    expect(broker.log).toContain(`Context test/shop/1 ends (uid ${process.getuid?.()}, pid ${process.pid})`);
  });
}

test("a context whose listening socket is made to wait ends when somebody connects, and the broker does not wait", async () => {
  await using broker = new TestBroker(RULES);
  using engine = broker.connect();
  const path = `${broker.directory}/spoiled.sock`;
  using listener = listenerAt(path);
  const [lent, held] = socketpair(constants.SOCK_STREAM);
  using _h = held;
  {
    using closeFd = lent;
    engine.createContext({ engine: "test", app: "shop", instance: "1", listener, closeFd });
  }
  setNonBlocking(listener, false);
  expect(contextsOf(engine)).toEqual(["test/shop/1"]); // nobody has looked at it
  using late = socket(constants.AF_UNIX, constants.SOCK_STREAM);
  connect(late, unixAddress(path), path);
  await waitUntil(() => contextsOf(engine).length === 0, "the context to end");
  expect(broker.log).toContain("Context test/shop/1: O_NONBLOCK of its listening socket was cleared");
});

test("a context can make no other, whatever a rule says, and the descriptors that it sent are closed", async () => {
  await using broker = new TestBroker(RULES);
  using engine = broker.connect();
  const path = `${broker.directory}/outer.sock`;
  using listener = listenerAt(path);
  const [lent, held] = socketpair(constants.SOCK_STREAM);
  using _h = held;
  {
    using closeFd = lent;
    engine.createContext({ engine: "test", app: "shop", instance: "1", listener, closeFd });
  }
  using inside = broker.connect({ env: { ...broker.env, SHMLINK_SOCKET: path }, start: false });
  using nested = listenerAt(`${broker.directory}/nested.sock`);
  const [nestedLent, nestedHeld] = socketpair(constants.SOCK_STREAM | constants.SOCK_NONBLOCK);
  {
    using closeFd = nestedLent;
    expect(() =>
      inside.createContext({ engine: "test", app: "shop", instance: "2", listener: nested, closeFd }),
    ).toThrow(/there is no nesting/);
  }
  using end = nestedHeld;
  const gone = (): boolean => pollNow(end, constants.EPOLLHUP) !== 0;
  await waitUntil(gone, "the broker to have closed the other end");
  expect(contextsOf(engine)).toEqual(["test/shop/1"]);
  expect(broker.log).toContain(
    'Refused to create context "test/shop/2" from within a context: there is no nesting, make it outside (uid ',
  );
});

test("a close descriptor that can never hang up, and a socket that does not listen, are refused", async () => {
  await using broker = new TestBroker(RULES);
  const attempt = (listener: OwnedFd, closeFd: OwnedFd): void => {
    using engine = broker.connect();
    engine.createContext({ engine: "test", app: "shop", instance: "1", listener, closeFd });
  };
  using listener = listenerAt(`${broker.directory}/x.sock`);
  using memfd = memfdCreate("never");
  using udp = socket(constants.AF_INET, constants.SOCK_DGRAM);
  for (const never of [memfd, udp, listener])
    expect(() => attempt(listener, never)).toThrow(/close_fd: a pipe or a socket is wanted/);
  const [near, far] = socketpair(constants.SOCK_STREAM);
  using _n = near;
  using _f = far;
  expect(() => attempt(near, far)).toThrow(/listen_fd: a listening Unix stream socket is wanted/);
});

/** A connection to a listener that is waiting to be accepted. */
function waitingAt(path: string): OwnedFd {
  const fd = socket(constants.AF_UNIX, constants.SOCK_STREAM | constants.SOCK_NONBLOCK);
  connect(fd, unixAddress(path), path);
  return fd;
}

test("a context that would wait for a connection to itself is refused, also by way of another one", async () => {
  await using broker = new TestBroker(RULES);
  const [one, two] = ["one", "two"].map((name) => `${broker.directory}/${name}.sock`) as [string, string];
  using first = listenerAt(one);
  using second = listenerAt(two);
  using toFirst = waitingAt(one);
  using toSecond = waitingAt(two);
  {
    using engine = broker.connect();
    const make = (instance: string, listener: OwnedFd, closeFd: OwnedFd): number =>
      engine.createContext({ engine: "test", app: "shop", instance, listener, closeFd });
    expect(() => make("1", first, toFirst)).toThrow(/waits for a connection to itself/);
    make("1", first, toSecond); // nobody of ours accepts there
    expect(() => make("2", second, toFirst)).toThrow(/a socket of the broker/);
    const [lent, held] = socketpair(constants.SOCK_STREAM);
    using _h = held;
    using closeFd = lent;
    expect(() => make("2", second, closeFd)).toThrow(/waits for a connection to itself/);
    for (const why of ["would be on a socket of the broker", "would be one that waits for a connection to itself"])
      expect(broker.log).toContain(`Refused to create context "test/shop/2": it ${why} (uid `);
  }
  toSecond.close();
  second.close(); // and with it what was waiting there
  using watcher = broker.connect();
  await waitUntil(() => contextsOf(watcher).length === 0, "the context to end");
});

test("a rule for the action context fits by engine/app/instance, so that nobody takes the identity of another app", async () => {
  await using broker = new TestBroker(
    '[[allow]]\nname = "owner"\nuid = "owner"\naction = ["connect", "list"]\n' +
      '[[allow]]\nuid = "owner"\naction = "context"\nservice = "podman/shop/*"\n',
  );
  using engine = broker.connect();
  using listener = listenerAt(`${broker.directory}/shop.sock`);
  const create = (identity: { engine: string; app: string; instance: string }): unknown => {
    const [closeFd, held] = socketpair(constants.SOCK_STREAM);
    using _c = closeFd;
    using _h = held;
    return engine.createContext({ ...identity, listener, closeFd });
  };
  expect(() => create({ engine: "podman", app: "bank", instance: "1" })).toThrow(
    'Cannot create context "podman/bank/1"',
  );
  expect(() => create({ engine: "docker", app: "shop", instance: "1" })).toThrow("no rule allows user");
  expect(create({ engine: "podman", app: "shop", instance: "1" })).toBeNumber();
});

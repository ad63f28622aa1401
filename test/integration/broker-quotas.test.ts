/** A limit that is reached is told in the words of what was asked for, with the limit's name and what to do. */
import { expect, test } from "bun:test";
import { addSeals, constants, ftruncate, memfdCreate, pipe } from "../../ffi/mod.ts";
import type { BrokerLink } from "../../lib/client/broker-link.ts";
import { listenOn } from "../../lib/transport/socket-path.ts";
import { TestBroker, waitUntil } from "../helpers/broker.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { RawPeer } from "../helpers/raw-peer.ts";
import { refusal } from "../helpers/refusal.ts";

expectNoFdLeaks();

const LIMITS = `[limits]
maxSessionsPerUser = 2
maxServicesPerUser = 2
maxChannelsPerUser = 1
maxListenersPerUser = 0
maxContextsPerUser = 0
maxFdsPerUser = 16
`;
const ME = `user ${process.getuid?.()}`;

test("each request that finds a limit is refused in its own words", async () => {
  await using broker = new TestBroker(LIMITS);
  using link = broker.connect();
  const other = broker.connect();
  using stack = new DisposableStack();
  const { reader, writer } = pipe();
  for (const end of [reader, writer]) stack.use(end);
  const listener = stack.use(listenOn(`${broker.directory}/context.sock`));
  const counters = stack.use(memfdCreate("counters"));
  ftruncate(counters, 4096);
  addSeals(counters, constants.F_SEAL_SHRINK | constants.F_SEAL_GROW);
  const identity = { engine: "e", app: "a", instance: "i" };
  const place = { address: "127.0.0.1", port: 8123, path: "/tmp/x.sock", flags: 0, pid: 0 };
  const registered = (): void => {
    const request = link.requestListener({ ...place, counters }, () => undefined);
    link.wait(() => request.settled, -1);
    throw request.failure;
  };
  using offer = link.offer("shared");
  using _service = link.listen("db");
  for (const [wish, act, limit] of [
    ['listen as "more"', () => link.listen("more"), "3 services, limits.maxServicesPerUser is 2"],
    ['dial "db"', () => link.dial("db"), "2 channels, limits.maxChannelsPerUser is 1"],
    ['offer "more"', () => link.offer("more"), "3 services, limits.maxServicesPerUser is 2"],
    ['offer "shared"', () => offer.publish(Array(17).fill(reader)), "17 descriptors, limits.maxFdsPerUser is 16"],
    [
      "mint a connection",
      () => link.mint([{ rights: ["dial"], name: "db" }]),
      "3 sessions, limits.maxSessionsPerUser is 2",
    ],
    [
      'create context "e/a/i"',
      () => link.createContext({ ...identity, listener, closeFd: reader }),
      "1 context, limits.maxContextsPerUser is 0",
    ],
    ['register "tcp:127.0.0.1:8123"', registered, "1 listener, limits.maxListenersPerUser is 0"],
  ] as const)
    expect(refusal(act)).toBe(`quota: Cannot ${wish}: ${ME} would have ${limit}; raise it in shmlink.toml`);
  using crowd = new RawPeer(broker.socketPath);
  expect(crowd.nextError()?.message).toBe(
    `Cannot let you in: ${ME} would have 3 sessions, limits.maxSessionsPerUser is 2; raise it in shmlink.toml`,
  );
  other.close();
  await waitUntil(() => sessionsOf(link) === 1, "the broker to have seen that"); // who ends it connects as well
});

test("who waits for something to take counts, until he has it or waits no more", async () => {
  await using broker = new TestBroker("[limits]\nmaxServicesPerUser = 3\n");
  using link = broker.connect();
  using offer = link.offer("gift");
  using gift = memfdCreate("gift");
  const [first, second, third] = Array.from({ length: 3 }, () => link.requestDelivery("gift", true));
  link.wait(() => third?.settled === true, 10_000);
  expect(third?.failure?.message).toBe(
    `Cannot take "gift": ${ME} would have 4 services, limits.maxServicesPerUser is 3; raise it in shmlink.toml`,
  );
  offer.publish([gift]);
  link.wait(() => first?.settled === true, -1);
  for (const delivery of [first, second, third]) delivery?.[Symbol.dispose]();
  for (const name of ["one", "two"]) link.listen(name);
  expect(refusal(() => link.listen("three"))).toMatch(/limits.maxServicesPerUser is 3/);
});

function sessionsOf(link: BrokerLink): unknown {
  return link.list().find(({ kind }) => kind === "broker")?.details["sessions"];
}

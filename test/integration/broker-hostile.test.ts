/** Peers that flood, never read, open and close without end, or send descriptors without end: they are held up or ended,
 *  everybody else is served, and nothing is left over. */
import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { type BorrowedFd, constants, kill, open, poll, recvmsg, SyscallError, sendmsg } from "../../ffi/mod.ts";
import type { BrokerLink } from "../../lib/client/broker-link.ts";
import { isRunning, TestBroker, waitUntil } from "../helpers/broker.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { message, RawPeer, text } from "../helpers/raw-peer.ts";

expectNoFdLeaks();

/** sendmsg() as far as the socket takes it. @returns false at the end of the connection */
function push(fd: BorrowedFd, bytes: Uint8Array, fds: readonly BorrowedFd[] = []): boolean {
  try {
    sendmsg(fd, bytes, fds);
    return true;
  } catch (error) {
    if (error instanceof SyscallError && (error.code === "EPIPE" || error.code === "ECONNRESET")) return false;
    throw error;
  }
}

/** Does what a peer does that has nothing to do with the offender. */
function roundTrip(link: BrokerLink): void {
  expect(link.list("nothing-like-this")).toEqual([]);
}

test("a flood of requests is read at the configured rate, and others are answered meanwhile", async () => {
  await using broker = new TestBroker("[limits]\nmaxMessagesPerSecond = 2000\n");
  using other = broker.connect();
  using raw = new RawPeer(broker.socketPath);
  const flood = new Uint8Array(
    Array.from({ length: 1000 }, () => [...message(1, 0, 0x10), ...message(1, 0, 0x11)]).flat(),
  );
  let answers = 0;
  const started = performance.now();
  for (let turn = 0; performance.now() - started < (answers > 100 ? 1500 : 30_000); turn++) {
    const [events = 0] = poll([{ fd: raw.fd, events: constants.EPOLLIN | constants.EPOLLOUT }], 10);
    if ((events & constants.EPOLLOUT) !== 0) push(raw.fd, flood);
    if ((events & constants.EPOLLIN) !== 0) answers += (recvmsg(raw.fd)?.bytes.length ?? 0) / 24;
    if (turn % 50 === 0) roundTrip(other);
  }
  const elapsedSeconds = (performance.now() - started) / 1000;
  expect(answers).toBeGreaterThan(100);
  // A sync is answered by done and delete_id: 24 bytes. The burst is a tenth of a second.
  expect(answers).toBeLessThan(2000 * (elapsedSeconds + 0.2));
});

test("what a flood of breaches leaves in the log is bounded, and the rest is counted", async () => {
  await using broker = new TestBroker();
  const other = broker.connect();
  for (let count = 0; count < 600; count++) {
    using raw = new RawPeer(broker.socketPath);
    raw.send(message(77, 0));
    while (raw.next() !== undefined);
  }
  other.close();
  const pid = broker.pid;
  kill(pid, constants.SIGTERM);
  await waitUntil(() => !isRunning(pid), "the broker to end");
  const lines = broker.log.split("\n");
  expect(lines.filter((line) => line.includes("Session ended")).length).toBeLessThan(600);
  expect(lines.findLast((line) => line.includes("Left out"))).toMatch(
    /Left out \d+ lines?: there were too many at once/,
  );
});

test("what waited for its turn is handled although the peer has gone, in order", async () => {
  await using broker = new TestBroker("[limits]\nmaxMessagesPerSecond = 100\n");
  using other = broker.connect();
  {
    using raw = new RawPeer(broker.socketPath);
    raw.greet("parting");
    for (let index = 0; index < 40; index++) raw.send(message(3, 1, 10 + index, ...text(`last-${index}`), 0));
    await waitUntil(() => other.list().filter(({ name }) => name.startsWith("last-")).length > 5, "the first of them");
  }
  await waitUntil(() => !other.list().some(({ name }) => name.startsWith("last-")), "the end of the session");
});

/** Asks and asks, and reads nothing. */
async function untilEnded(raw: RawPeer): Promise<void> {
  const syncs = new Uint8Array(Array.from({ length: 500 }, () => [...message(1, 0, 0x10)]).flat());
  await waitUntil(() => {
    const [events = 0] = poll([{ fd: raw.fd, events: constants.EPOLLOUT }], 0);
    return (events & constants.EPOLLOUT) !== 0 && !push(raw.fd, syncs);
  }, "the broker to end it");
}

test("who never reads is ended when too much waits for it, and others are served", async () => {
  await using broker = new TestBroker("[limits]\nmaxQueuedBytes = 65536\n");
  using other = broker.connect();
  using raw = new RawPeer(broker.socketPath);
  await untilEnded(raw);
  roundTrip(other);
  expect(broker.log).toMatch(/Session ended: Cannot send to this peer: 65536 bytes wait already, it does not read/);
});

test("what may wait for who is connected already is another limit when the configuration has been read again", async () => {
  await using broker = new TestBroker();
  using _other = broker.connect();
  using raw = new RawPeer(broker.socketPath);
  raw.greet();
  raw.send(message(1, 0, 9));
  while (raw.next()?.sender !== 9);
  writeFileSync(broker.configPath, "[limits]\nmaxQueuedBytes = 65536\n");
  kill(broker.pid, constants.SIGHUP);
  await waitUntil(() => broker.log.includes("Configuration read again"), "the new limit");
  await untilEnded(raw);
  expect(broker.log).toMatch(/Session ended: Cannot send to this peer: 65536 bytes wait already, it does not read/);
});

test("sessions of one user that do not read are ended when together too much waits for them", async () => {
  await using broker = new TestBroker("[limits]\nmaxQueuedBytesPerUser = 131072\n");
  using other = broker.connect();
  const peers = [1, 2, 3, 4].map(() => new RawPeer(broker.socketPath));
  const alive = new Set(peers);
  const syncs = new Uint8Array(Array.from({ length: 500 }, () => [...message(1, 0, 0x10)]).flat());
  await waitUntil(() => {
    for (const raw of alive) {
      const [events = 0] = poll([{ fd: raw.fd, events: constants.EPOLLOUT }], 0);
      if ((events & constants.EPOLLOUT) !== 0 && !push(raw.fd, syncs)) alive.delete(raw);
    }
    return alive.size < peers.length;
  }, "the broker to end one of them");
  roundTrip(other);
  expect(broker.log).toMatch(/bytes waiting to be read, limits\.maxQueuedBytesPerUser is 131072/);
  for (const raw of peers) raw[Symbol.dispose]();
});

test("who opens and closes without end is held up, leaves nothing, and others connect and are served", async () => {
  await using broker = new TestBroker("[limits]\nmaxMessagesPerSecond = 20000\n");
  using other = broker.connect();
  const before = await broker.fdCountAtRest();
  for (let index = 0; index < 1500; index++) {
    const raw = new RawPeer(broker.socketPath);
    push(raw.fd, message(1, 1, 2)); // or it was turned away
    raw[Symbol.dispose]();
    if (index % 100 === 0) roundTrip(other);
  }
  await waitUntil(() => {
    using raw = new RawPeer(broker.socketPath);
    return push(raw.fd, message(1, 1, 2)) && raw.next() !== undefined;
  }, "one to be let in");
  await waitUntil(() => broker.fdCount() === before, "the broker to have forgotten all of them");
}, 60_000);

test("who makes objects without end is ended at the user's limit, and what it had is given back", async () => {
  await using broker = new TestBroker("[limits]\nmaxObjectsPerUser = 400\n");
  using other = broker.connect();
  for (let turn = 0; turn < 3; turn++) {
    using raw = new RawPeer(broker.socketPath);
    raw.greet();
    push(raw.fd, new Uint8Array(Array.from({ length: 600 }, (_, index) => [...message(1, 1, 4 + index)]).flat())); // registries
    expect(raw.nextError()?.message).toMatch(/would have \d+ objects, limits\.maxObjectsPerUser is 400/);
  }
  roundTrip(other);
});

test("who sends descriptors without a message that takes them is ended, and they are closed", async () => {
  await using broker = new TestBroker();
  using other = broker.connect();
  const before = await broker.fdCountAtRest();
  using raw = new RawPeer(broker.socketPath);
  using nothing = open("/dev/null", constants.O_RDONLY);
  const many = Array.from({ length: 28 }, () => nothing);
  await waitUntil(() => !push(raw.fd, message(1, 0, 0x10), many), "the broker to end it");
  await waitUntil(() => broker.fdCount() === before, "the broker to have closed them");
  roundTrip(other);
});

test("a connection that is sent to its own other end does not keep itself alive, in whatever way it is sent", async () => {
  await using broker = new TestBroker();
  using other = broker.connect();
  const before = await broker.fdCountAtRest();
  const ASKED = 0x10;
  const ways: ((raw: RawPeer) => void)[] = [
    (raw) => push(raw.fd, message(1, 0, ASKED).subarray(0, 6), [raw.fd]), // ahead of a message that never comes
    (raw) => {
      push(raw.fd, message(1, 1, 2));
      push(raw.fd, message(2, 0, 1, ...text("shmlink_manager_v1"), 1, 3));
      push(raw.fd, message(3, 0, ...text("own")), [raw.fd]); // as its doorbell
      push(raw.fd, message(1, 0, ASKED));
    },
    (raw) => {
      raw.greet();
      push(raw.fd, message(3, 7, 4, ...text("loop")));
      push(raw.fd, message(4, 1), [raw.fd]); // in a bundle that is never published
      push(raw.fd, message(1, 0, ASKED));
    },
  ];
  for (const way of ways) {
    {
      using raw = new RawPeer(broker.socketPath);
      way(raw);
      for (let event = raw.next(); event !== undefined && event.sender !== ASKED; ) event = raw.next(); // it has them
    }
    await waitUntil(() => broker.fdCount() === before, `the session to end: ${way.toString()}`);
  }
  roundTrip(other);
});

/** Descriptors whose close(2) takes as long as their sender likes: nobody else waits for them. */
import { expect } from "bun:test";
import { type ChildProcess, spawn } from "node:child_process";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import {
  CallThread,
  constants,
  kill,
  memfdCreate,
  type OwnedFd,
  open,
  poll,
  SyscallError,
  sendmsg,
  socketpair,
} from "../../ffi/mod.ts";
import { isRunning, TestBroker, waitUntil, whileStopped } from "../helpers/broker.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { untilHeld } from "../helpers/holder.ts";
import { Lingering } from "../helpers/lingering.ts";
import { openFds } from "../helpers/open-fds.ts";
import { message, RawPeer, text } from "../helpers/raw-peer.ts";
import { requires } from "../helpers/requires.ts";
import { makeRuntimeDir } from "../helpers/runtime-dir.ts";

expectNoFdLeaks();

const machine = requires.feature(process.arch === "x64", "threads that close are machine code for x86-64");
const fuseMount = [
  machine,
  requires.root(),
  requires.program("python3", "python3"),
  requires.file("/dev/fuse", "udev"),
];
const MANAGER = 4; // of version 2
const PUBLISHED = 2; // of an offer
const [FD, DONE, FAILED] = [0, 1, 2]; // of a delivery
const CLOSE = "3"; // the system call, on x86-64

function greeted(broker: TestBroker): RawPeer {
  const peer = new RawPeer(broker.socketPath);
  peer.greet();
  peer.send(message(2, 0, 1, ...text("shmlink_manager_v1"), 2, MANAGER));
  return peer;
}

/** How many threads of the process are inside close(2). */
function closingThreads(pid: number): number {
  const tasks = `/proc/${pid}/task`;
  return readdirSync(tasks).filter((task) => callOf(join(tasks, task)) === CLOSE).length;
}

/** The system call that a thread is in. */
function callOf(task: string): string | undefined {
  try {
    return readFileSync(join(task, "syscall"), "utf8").split(" ")[0];
  } catch {
    return undefined; // it has ended meanwhile
  }
}

/** It closes, as its program is executed, what the broker has open. */
function childrenOf(pid: number): string {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim();
}

function isLetIn({ socketPath }: TestBroker): boolean {
  using peer = new RawPeer(socketPath);
  try {
    peer.send(message(1, 0, 5));
  } catch (error) {
    if (error instanceof SyscallError) return false; // it was shown out before that
    throw error;
  }
  return peer.next()?.sender === 5;
}

/** Each leaves the broker as the last that has the descriptor, once the test has closed its own: the broker stands still until then. */
const WAYS: Readonly<Record<string, (peer: RawPeer, fd: OwnedFd) => void>> = {
  "as a spare ring": (peer, fd) => peer.send(message(MANAGER, 13, 77), [fd]),
  "as the counters of a listener": (peer, fd) =>
    peer.send(message(MANAGER, 3, 5, ...text("127.0.0.1"), 8080, ...text("/a"), 0, 0), [fd]),
  "in an offer that is withdrawn": (peer, fd) => {
    peer.send(message(MANAGER, 7, 5, ...text("slow")));
    peer.send(message(5, 1), [fd]);
    peer.send(message(5, 0));
  },
  "without a message, by who then leaves": (peer, fd) => {
    peer.send(message(1, 0, 5), [fd]);
    peer.fd.close();
  },
  "behind a breach of the protocol": (peer, fd) => {
    peer.send(message(77, 0));
    peer.send(message(1, 0, 5), [fd]);
  },
  "out of band, by who then leaves": (peer, fd) => {
    sendmsg(peer.fd, new Uint8Array(1), [fd], constants.MSG_OOB);
    peer.fd.close();
  },
  "in the queue of a socket that is sent": (peer, fd) => {
    const [near, far] = socketpair(constants.SOCK_STREAM);
    sendmsg(near, new Uint8Array(1), [fd]);
    peer.send(message(MANAGER, 13, 77), [far]);
    for (const end of [near, far]) end.close();
  },
};

for (const [way, send] of Object.entries(WAYS)) {
  requires.test([machine], `a connection that lingers, sent ${way}, holds up nobody else`, async () => {
    await using broker = new TestBroker();
    using other = broker.connect();
    using lingering = new Lingering();
    using peer = greeted(broker);
    other.list();
    whileStopped(broker, () => {
      send(peer, lingering.fd);
      lingering.fd.close();
    });
    await waitUntil(() => closingThreads(broker.pid) === 1, "a thread to be held up");
    for (let turn = 0; turn < 20; turn++) expect(other.list("nothing-like-this")).toEqual([]);
    using late = greeted(broker);
    late.send(message(1, 0, 5));
    while (late.next()?.sender !== 5);
    lingering.release();
    await waitUntil(() => closingThreads(broker.pid) === 0, "the thread to come back");
  });
}

requires.test([machine], "a broker ends although a descriptor that it was sent does not close", async () => {
  await using broker = new TestBroker();
  using lingering = new Lingering();
  {
    using other = broker.connect();
    using peer = greeted(broker);
    whileStopped(broker, () => {
      peer.send(message(MANAGER, 13, 77), [lingering.fd]);
      lingering.fd.close();
    });
    await waitUntil(() => closingThreads(broker.pid) === 1, "a thread to be held up");
    other.list();
  }
  const { pid } = broker;
  kill(pid, constants.SIGTERM);
  await waitUntil(() => !isRunning(pid), "the broker to end");
});

requires.test(
  [machine],
  "who sends more that does not close than he may have descriptors is shown out, until it is",
  async () => {
    await using broker = new TestBroker("[limits]\nmaxFdsPerUser = 8\n");
    broker.connect().close();
    const slow = Array.from({ length: 12 }, () => new Lingering());
    {
      using peer = greeted(broker);
      whileStopped(broker, () => {
        for (const { fd } of slow) peer.send(message(MANAGER, 13, 77), [fd]);
        for (const { fd } of slow) fd.close();
      });
      expect(peer.nextError()?.message).toMatch(
        /descriptors that user \d+ has sent wait to be closed, limits\.maxFdsPerUser is 8/,
      );
    }
    {
      using turnedAway = new RawPeer(broker.socketPath);
      expect(turnedAway.nextError()?.message).toMatch(/wait to be closed/);
    }
    for (const each of slow) each[Symbol.dispose]();
    await waitUntil(() => isLetIn(broker), "the user to be let in again");
  },
);

requires.test([machine], "who holds for the next broker has so many threads that close, and no more", async () => {
  await using broker = new TestBroker();
  using link = broker.connect();
  using slow = new DisposableStack();
  const all = Array.from({ length: 28 }, () => slow.use(new Lingering()).fd);
  const files = all.map((fd) => readlinkSync(`/proc/self/fd/${fd.number}`));
  const offer = link.offer("slow");
  offer.publish(all);
  await untilHeld(broker, 1);
  const [holder = 0] = broker.holders();
  await waitUntil(() => files.every((file) => openFds(holder).some((entry) => entry.endsWith(file))), "all to be held");
  for (const fd of all) fd.close();
  offer.close();
  using note = memfdCreate("shmlink:note");
  using later = link.offer("note");
  later.publish([note]);
  await untilHeld(broker, 2); // and it has heard before that what it is to let go of
  await waitUntil(() => closingThreads(holder) === 24, "as many threads as there may be to be held up");
});

requires.test([machine], "who holds for the next broker closes all else while something does not close", async () => {
  await using broker = new TestBroker();
  using link = broker.connect();
  using slow = new Lingering();
  const pairs = Array.from({ length: 24 }, () => socketpair(constants.SOCK_STREAM));
  const fds = [slow.fd, ...pairs.map(([near]) => near)];
  const files = fds.map((fd) => readlinkSync(`/proc/self/fd/${fd.number}`));
  const [first, ...others] = fds.map((fd, index) => {
    const offer = link.offer(`o${index}`);
    offer.publish([fd]);
    fd.close();
    return offer;
  });
  await untilHeld(broker, 1);
  const [holder = 0] = broker.holders();
  await waitUntil(() => files.every((file) => openFds(holder).some((entry) => entry.endsWith(file))), "all to be held");
  first?.close();
  await waitUntil(() => closingThreads(holder) === 1, "a thread to be held up");
  for (const [index, offer] of others.entries()) {
    offer.close();
    const far = pairs[index]?.[1];
    await waitUntil(() => far !== undefined && hasHungUp(far), "the last of its other end to be closed");
    far?.close();
  }
});

function hasHungUp(fd: OwnedFd): boolean {
  return ((poll([{ fd, events: 0 }], 0)[0] ?? 0) & constants.EPOLLHUP) !== 0;
}

class SilentFuse implements AsyncDisposable {
  readonly #child: ChildProcess;

  constructor(directory: string) {
    const program = join(import.meta.dirname, "..", "fixtures", "programs", "silent-fuse.py");
    this.#child = spawn("python3", [program, directory], { stdio: ["pipe", "pipe", "inherit"] });
  }

  async said(word: string): Promise<void> {
    const line = await new Promise<string>((resolve) => this.#child.stdout?.once("data", (data) => resolve(`${data}`)));
    if (line.trim() !== word) throw new Error(`Cannot go on: the file system said "${line}"`);
  }

  async fallSilent(): Promise<void> {
    this.#child.stdin?.write("\n");
    await this.said("silent");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null) return;
    const ended = new Promise((resolve) => this.#child.once("close", resolve));
    this.#child.stdin?.end();
    await ended;
  }
}

requires.test(
  fuseMount,
  "a file whose server does not answer holds up nobody else, whether it is looked at or closed",
  async () => {
    await using broker = new TestBroker();
    using other = broker.connect();
    using directory = makeRuntimeDir();
    await using fuse = new SilentFuse(directory.path);
    await fuse.said("mounted");
    using peer = greeted(broker);
    peer.send(message(MANAGER, 7, 5, ...text("remote")));
    const file = open(join(directory.path, "file"), constants.O_RDONLY);
    await fuse.fallSilent();
    peer.send(message(5, 1), [file]); // it is looked at
    const thread = CallThread.start();
    thread?.close([file.take()]); // this process would not come back from it either
    peer.send(message(5, 0));
    await waitUntil(() => closingThreads(broker.pid) === 1, "a thread to be held up");
    expect(other.list("nothing-like-this")).toEqual([]);
    await fuse[Symbol.asyncDispose]();
    await waitUntil(() => thread?.isBusy === false, "our own thread to come back");
    thread?.giveBack();
  },
);

requires.test(fuseMount, "copies of what is kept on offer are made until too many of them do not close", async () => {
  await using broker = new TestBroker("[limits]\nmaxFdsPerUser = 64\n");
  using other = broker.connect();
  using directory = makeRuntimeDir();
  await using fuse = new SilentFuse(directory.path);
  await fuse.said("mounted");
  using offerer = greeted(broker);
  offerer.send(message(MANAGER, 7, 5, ...text("remote")));
  using file = open(join(directory.path, "file"), constants.O_RDONLY);
  await fuse.fallSilent(); // before it is kept: a moment later the broker starts who holds it
  for (let count = 0; count < 28; count++) offerer.send(message(5, 1), [file]);
  offerer.send(message(5, 2, 1)); // keep
  for (let event = offerer.next(); event?.opcode !== PUBLISHED || event.sender !== 5; event = offerer.next());
  await waitUntil(() => childrenOf(broker.pid) !== "", "the broker to start who holds it for the next one");
  using taker = greeted(broker);
  const answers: unknown[] = [];
  try {
    for (let object = 16; answers.at(-1) !== FAILED && object < 32; object++) {
      taker.send(message(MANAGER, 8, object, ...text("remote"), 0));
      let event = taker.next();
      while (event !== undefined && (event.sender !== object || event.opcode === FD)) event = taker.next();
      answers.push(event?.opcode);
    }
    expect(other.list("remote").length).toBe(1);
  } finally {
    await fuse[Symbol.asyncDispose](); // before anything of it is closed here
  }
  await untilHeld(broker, 1);
  await waitUntil(() => childrenOf(broker.pid) === "", "the broker to have waited for its child");
  expect(answers).toEqual([DONE, DONE, DONE, FAILED]);
});

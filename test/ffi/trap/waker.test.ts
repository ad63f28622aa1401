import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { release } from "node:os";
import { calls } from "../../../ffi/calls.ts";
import { backend } from "../../../ffi/load.ts";
import { allocateForever } from "../../../ffi/memory.ts";
import { epollAdd, epollCreate, type OwnedFd, pipe, read, write } from "../../../ffi/mod.ts";
import { TrapPath } from "../../../ffi/trap/path.ts";
import { hasReceiveEnd, TrapWaker } from "../../../ffi/trap/waker.ts";
import { expectNoFdLeaks } from "../../helpers/fd-leak.ts";
import { newThread, ownThreads, untilNoneIsNew } from "../../helpers/own-threads.ts";
import { requires } from "../../helpers/requires.ts";
import { until } from "../../helpers/wrapped.ts";

expectNoFdLeaks();

const hasWaker = requires.feature(process.arch === "x64" && hasReceiveEnd(release()), "only on x86-64 and Linux 6.11");
// struct waker
const [STATE, SENT] = [0, 1];
const [RESTING, WATCHING, ASLEEP, WAKING] = [0, 1, 2, 3];
const FUTEX_WAKE_PRIVATE = 129;

/** A waker for an epoll set with a pipe in it, and what trap-path.c does with its struct. */
class Scene implements Disposable {
  readonly #others: OwnedFd = epollCreate();
  readonly #reader: OwnedFd;
  readonly #writer: OwnedFd;
  readonly waker: TrapWaker;
  readonly #words: Int32Array;

  constructor() {
    const { reader, writer } = pipe(0);
    [this.#reader, this.#writer] = [reader, writer];
    epollAdd(this.#others, reader, 1, 0);
    const waker = TrapWaker.start(this.#others);
    if (waker === undefined) throw new Error("There is no waker");
    this.waker = waker;
    this.#words = new Int32Array(backend.view(waker.address, 16));
  }

  get sent(): number {
    return Atomics.load(this.#words, SENT);
  }

  get state(): number {
    return Atomics.load(this.#words, STATE);
  }

  watch(): void {
    expect(Atomics.compareExchange(this.#words, STATE, RESTING, WATCHING)).toBe(RESTING);
    calls.futex(this.waker.address, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
  }

  sleep(): void {
    expect(Atomics.compareExchange(this.#words, STATE, WATCHING, ASLEEP)).toBe(WATCHING);
  }

  awake(): void {
    for (let was = -1; was !== ASLEEP; ) {
      was = Atomics.compareExchange(this.#words, STATE, ASLEEP, WATCHING);
      expect([ASLEEP, WAKING]).toContain(was);
    }
  }

  makeReady(): void {
    write(this.#writer, Uint8Array.of(1));
  }

  makeQuiet(): void {
    read(this.#reader, new Uint8Array(1));
  }

  [Symbol.dispose](): void {
    this.waker[Symbol.dispose]();
    for (const fd of [this.#others, this.#reader, this.#writer]) fd.close();
  }
}

/** Whether SIGURG has a handler. */
function isHandled(): boolean {
  const mask = /^SigCgt:\s*(\w+)/m.exec(readFileSync("/proc/self/status", "latin1"))?.[1] ?? "0";
  return ((BigInt(`0x${mask}`) >> 22n) & 1n) === 1n;
}

requires.test([hasWaker], "TrapWaker interrupts who is asleep, again until it is awake, and rests then", async () => {
  using scene = new Scene();
  scene.watch();
  scene.sleep();
  scene.makeReady();
  await until("the signal to come again", () => scene.sent >= 3);
  scene.awake();
  await until("the waker to rest", () => scene.state === RESTING);
  const { sent } = scene;
  scene.makeQuiet();
  scene.watch();
  scene.sleep();
  await Bun.sleep(20);
  scene.awake();
  expect(scene.sent).toBe(sent);
});

requires.test([hasWaker], "TrapWaker rests without a signal when nobody sleeps", async () => {
  using scene = new Scene();
  scene.watch();
  scene.makeReady();
  await until("the waker to rest", () => scene.state === RESTING);
  expect(scene.sent).toBe(0);
});

requires.test([hasWaker], "TrapWaker has one thread and a signal, and gives both back at its end", async () => {
  for (const isWatching of [false, true]) {
    expect(isHandled()).toBe(false);
    const before = ownThreads();
    const scene = new Scene();
    const own = await newThread(before);
    expect(isHandled()).toBe(true);
    if (isWatching) scene.watch();
    scene[Symbol.dispose]();
    scene.waker[Symbol.dispose]();
    expect(isHandled()).toBe(false);
    await until("its thread to be gone", () => !ownThreads().has(own));
  }
});

requires.test([hasWaker], "TrapWaker starts none where SIGURG is blocked, which would interrupt nobody", async () => {
  const [SIG_BLOCK, SIG_SETMASK, MASK_BYTES] = [0, 2, 8];
  const { address, data } = allocateForever(2 * MASK_BYTES);
  data.setBigUint64(0, 1n << 22n, true);
  using others = epollCreate();
  const before = ownThreads();
  calls.rtSigprocmask(SIG_BLOCK, address, address + MASK_BYTES, MASK_BYTES);
  const waker = TrapWaker.start(others);
  calls.rtSigprocmask(SIG_SETMASK, address + MASK_BYTES, 0, MASK_BYTES);
  expect(waker).toBe(undefined);
  expect(isHandled()).toBe(false);
  await untilNoneIsNew(before);
});

requires.test([hasWaker], "TrapPath has a waker when it was asked often enough, and ends it at its end", async () => {
  using others = epollCreate();
  const path = new TrapPath({
    notify: others,
    checks: [],
    noted: [],
    sendBuffer: { name: 7, bytes: 1 },
    ports: { first: 1024, count: 1 },
    ends: ["@a", "b"],
    others,
    mostFiles: 0,
  });
  const before = ownThreads();
  const serve = (): unknown => path.serve(others, 0);
  for (let times = 1; times < 16; times++) expect(serve).toThrow("SECCOMP_IOCTL_NOTIF_RECV"); // it is no listener
  await untilNoneIsNew(before);
  expect(serve).toThrow("SECCOMP_IOCTL_NOTIF_RECV");
  const own = await newThread(before);
  expect(isHandled()).toBe(true);
  path[Symbol.dispose]();
  expect(isHandled()).toBe(false);
  await until("its thread to be gone", () => !ownThreads().has(own));
});

test("hasReceiveEnd() is of Linux 6.11", () => {
  for (const release of ["6.11.0", "6.12.3-arch1-1", "6.18.44-fc-v595", "7.0.0-rc1", "10.1"])
    expect(hasReceiveEnd(release)).toBe(true);
  for (const release of ["6.10.9", "6.1.0-28-amd64", "5.15.0", "4.19"]) expect(hasReceiveEnd(release)).toBe(false);
});

import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type BorrowedFd,
  bind,
  constants,
  ftruncate,
  getFileLimit,
  isSameFile,
  type OwnedFd,
  pipe,
  recvmsg,
  setFileLimit,
  socket,
  unixAddress,
} from "../../../../ffi/mod.ts";
import { type Found, isKept, Keeper } from "../../../../lib/broker/survival/keeper.ts";
import { readState, StateFile } from "../../../../lib/broker/survival/state-file.ts";
import { SILENT } from "../../../../lib/log.ts";
import { Notifier } from "../../../../lib/transport/notify.ts";
import { expectNoFdLeaks } from "../../../helpers/fd-leak.ts";

expectNoFdLeaks();
const root = mkdtempSync(join(tmpdir(), "shmlink-keeper-"));
afterAll(() => rmSync(root, { recursive: true }));

/** A service manager's store, as systemd 252 has it: one of each open file, taken out by name. */
class Store implements Disposable {
  readonly held: Map<string, OwnedFd> = new Map();
  readonly address: string = join(root, `notify-${Math.random()}`);
  readonly #fd: OwnedFd = socket(constants.AF_UNIX, constants.SOCK_DGRAM | constants.SOCK_NONBLOCK);

  constructor() {
    bind(this.#fd, unixAddress(this.address));
  }

  /** Does what it was told. */
  work(): void {
    for (let heard = recvmsg(this.#fd); heard !== null; heard = recvmsg(this.#fd)) {
      const fields = new Map(
        new TextDecoder()
          .decode(heard.bytes)
          .split("\n")
          .map((line) => line.split("=") as [string, string]),
      );
      const name = fields.get("FDNAME") ?? "";
      if (fields.has("FDSTOREREMOVE")) this.#remove(name);
      for (const fd of heard.fds) this.#add(name, fd);
    }
  }

  #add(name: string, fd: OwnedFd): void {
    const isThere = [...this.held.values()].some((held) => isSameFile(held, process.pid, fd.number));
    if (isThere) fd.close();
    else this.held.set(name, fd);
  }

  #remove(name: string): void {
    this.held.get(name)?.close();
    this.held.delete(name);
  }

  /** What the next start of the service inherits. */
  pass(): Map<string, OwnedFd> {
    this.work();
    return new Map([...this.held].map(([name, fd]) => [name, fd.dup()]));
  }

  [Symbol.dispose](): void {
    for (const name of [...this.held.keys()]) this.#remove(name);
    this.#fd.close();
  }
}

function keeperOf(store: Store): Keeper {
  const logger = { error: () => undefined, warn: () => undefined, info: () => undefined, debug: () => undefined };
  const notifier = new Notifier({ NOTIFY_SOCKET: store.address });
  return new Keeper({ store: notifier, logger, setTimer: () => undefined });
}

function restoreAll(keeper: Keeper, store: Store, adopts: (key: string) => boolean = () => true): Found[] {
  const found: Found[] = [];
  keeper.restore(store.pass(), (one) => {
    if (adopts(one.key)) found.push(one);
    else for (const fd of one.fds) fd.close();
    return adopts(one.key);
  });
  return found;
}

test("a state file gives back what was set and not deleted, without a line that was cut off", () => {
  using state = new StateFile();
  state.set("a", { n: 1 });
  state.set("b", [2]);
  state.delete("a");
  state.set("c", "ü");
  expect([...readState(state.fd)]).toEqual([
    ["b", [2]],
    ["c", "ü"],
  ]);
  state.set("d", { cut: "off" });
  ftruncate(state.fd, [...state.lines.values()].join("\n").length + 20);
  expect([...readState(state.fd).keys()]).not.toContain("d");
});

test("a state file of another version is refused", () => {
  using state = new StateFile();
  ftruncate(state.fd, 0);
  expect(() => readState(state.fd)).toThrow("version");
});

test("what was kept comes back under its key, with its descriptors in order, also to the broker after the next", () => {
  using store = new Store();
  const { reader, writer } = pipe();
  using _r = reader;
  using _w = writer;
  {
    using keeper = keeperOf(store);
    expect(keeper.put("one", () => ({ n: 1 }), [reader, writer])).toBe(true);
    expect(keeper.put("gone", () => ({ n: 2 }), [writer])).toBe(true);
    expect(keeper.flush()).toBe(true);
    keeper.remove("gone");
    keeper.freeze();
  }
  for (const _broker of [1, 2]) {
    using keeper = keeperOf(store);
    const found = restoreAll(keeper, store);
    expect(found.map(({ key, value }) => ({ key, value }))).toMatchObject([{ key: "one", value: { n: 1 } }]);
    const [first, second] = found[0]?.fds ?? [];
    expect(isSameFile(reader, process.pid, first?.number ?? -1)).toBe(true);
    expect(isSameFile(writer, process.pid, second?.number ?? -1)).toBe(true);
    keeper.freeze();
    for (const fd of found[0]?.fds ?? []) fd.close();
  }
  store.work();
  expect([...store.held.keys()].filter((name) => !isKept(name))).toEqual([]);
  expect(store.held.size).toBe(3); // two ends of the pipe and one state file
});

test("an open file that two things hold stays until both have let go of it", () => {
  using store = new Store();
  using keeper = keeperOf(store);
  const { reader, writer } = pipe();
  writer.close();
  using one = reader;
  using other = reader.dup();
  keeper.put("a", () => ({}), [one]);
  keeper.put("b", () => ({}), [other]);
  keeper.flush();
  store.work();
  expect(store.held.size).toBe(2);
  keeper.remove("a");
  keeper.flush();
  store.work();
  expect(store.held.size).toBe(2);
  keeper.remove("b");
  keeper.flush();
  store.work();
  expect(store.held.size).toBe(1);
});

test("a broker that ends and has nothing to keep leaves nothing in the store, not even what would say so", () => {
  using store = new Store();
  using keeper = keeperOf(store);
  const { reader, writer } = pipe();
  using _r = reader;
  using _w = writer;
  keeper.put("a", () => ({}), [reader]);
  keeper.flush();
  keeper.remove("a");
  keeper.freeze();
  store.work();
  expect([...store.held.keys()]).toEqual([]);
});

test("what stands for nothing any more, and what has no line, is taken out of the store", () => {
  using store = new Store();
  const { reader, writer } = pipe();
  using _r = reader;
  using _w = writer;
  {
    using keeper = keeperOf(store);
    keeper.put("dead", () => ({}), [reader]);
    keeper.freeze();
  }
  store.work();
  store.held.set("keep.99", writer.dup()); // its broker was killed before it wrote the line
  using keeper = keeperOf(store);
  expect(restoreAll(keeper, store, () => false)).toEqual([]);
  keeper.flush();
  store.work();
  expect([...store.held.keys()]).toEqual([]);
});

test("what the store refuses waits, and keeps none of the others from being stored, however many are refused", () => {
  using stack = new DisposableStack();
  const pipes = Array.from({ length: 40 }, () => {
    const { reader, writer } = pipe();
    writer.close();
    return stack.use(reader);
  });
  const refused = new Set<number>(pipes.slice(0, 30).map(({ number }) => number));
  const store = { isEnabled: true, store: (_: string, fd: BorrowedFd) => !refused.has(fd.number), unstore: () => true };
  const stored: number[] = [];
  using keeper = new Keeper({ store, logger: SILENT, setTimer: () => undefined });
  for (const [index, fd] of pipes.entries())
    keeper.put(
      `pipe.${index}`,
      () => ({}),
      [fd],
      () => stored.push(index),
    );
  for (let time = 0; time < 5; time++) expect(keeper.flush()).toBe(false);
  expect(stored).toEqual([30, 31, 32, 33, 34, 35, 36, 37, 38, 39]);
  refused.clear();
  while (!keeper.flush());
  expect(stored.toSorted((a, b) => a - b)).toEqual(pipes.map((_, index) => index));
});

test("a store that takes something between what it refuses is not busy, and is offered all of it", () => {
  using stack = new DisposableStack();
  const pipes = Array.from({ length: 40 }, () => {
    const { reader, writer } = pipe();
    writer.close();
    return stack.use(reader);
  });
  const isRefused = (index: number): boolean => index % 2 === 0;
  const refused = new Set<number>(pipes.filter((_, index) => isRefused(index)).map(({ number }) => number));
  const offered = new Set<number>();
  const take = (_: string, fd: BorrowedFd): boolean => {
    offered.add(fd.number);
    return !refused.has(fd.number);
  };
  using keeper = new Keeper({
    store: { isEnabled: true, store: take, unstore: () => true },
    logger: SILENT,
    setTimer: () => undefined,
  });
  for (const [index, fd] of pipes.entries()) keeper.put(`pipe.${index}`, () => ({}), [fd]);
  expect(keeper.flush()).toBe(false);
  for (const { number } of pipes) expect(offered.has(number)).toBe(true);
});

test("a state file that lines pile up in is written anew, and the old one goes", () => {
  using store = new Store();
  using keeper = keeperOf(store);
  const { reader, writer } = pipe();
  writer.close();
  using fd = reader;
  for (let turn = 0; turn < 40; turn++) {
    keeper.put("big", () => ({ text: "x".repeat(20_000) }), [fd]);
    keeper.flush();
    store.work();
    if (turn < 39) keeper.remove("big");
  }
  keeper.flush();
  store.work();
  const states = [...store.held.keys()].filter((name) => name.startsWith("keep-state."));
  expect(states.length).toBe(1);
  expect(states[0]).not.toBe("keep-state.1");
  using next = keeperOf(store);
  const found = restoreAll(next, store);
  expect(found.map(({ key }) => key)).toEqual(["big"]);
  for (const each of found[0]?.fds ?? []) each.close();
});

test("a broker that is out of descriptors keeps what waits until there are some, and nothing is thrown", () => {
  using store = new Store();
  using keeper = keeperOf(store);
  const { reader, writer } = pipe();
  using _r = reader;
  using _w = writer;
  keeper.put("a", () => ({}), [reader]);
  const limit = getFileLimit();
  setFileLimit({ ...limit, soft: 3n }); // all of them are taken
  try {
    expect(keeper.flush()).toBe(false);
    keeper.freeze();
  } finally {
    setFileLimit(limit);
  }
  using later = keeperOf(store);
  later.put("a", () => ({}), [reader]);
  expect(later.flush()).toBe(true);
  const state = getFileLimit();
  setFileLimit({ ...state, soft: 3n }); // the state is there, what tells the manager is not to be had
  try {
    later.put("b", () => ({}), [writer]);
    expect(later.flush()).toBe(false);
  } finally {
    setFileLimit(state);
  }
  expect(later.flush()).toBe(true);
  store.work();
  expect(store.held.size).toBe(3);
});
